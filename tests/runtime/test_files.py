"""A folder is published completely, and leftovers of killed or failed publications are removed."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaving import killed_while_writing
from mobius_pipeline.runtime.files import atomic_folder, digest, move_folder, write_json
from mobius_pipeline.runtime.scratch import remove_leftovers

MEMORY = Path("/dev/shm")
elsewhere = pytest.mark.skipif(
    not MEMORY.is_dir() or MEMORY.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev,
    reason="one file system only",
)
PUBLISH = """
    import os, resource, shutil, sys
    from pathlib import Path
    from mobius_pipeline.runtime.files import move_folder, atomic_folder, write_json

    source, target, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if how == "killed":  # once the first file is copied
        copy = shutil.copy2
        shutil.copytree.__defaults__ = tuple(
            (lambda *given, **named: (copy(*given, **named), os.kill(os.getpid(), 9))) if one is copy else one
            for one in shutil.copytree.__defaults__
        )
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # bytes of a file, as on a full disk
    move_folder(source, target)
"""


def folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    for name in ("a", "b"):
        (path / name).write_text(text)
    return path


def texts(path: Path) -> set[str]:
    return {file.read_text() for file in path.iterdir()}


def published(source: Path, target: Path, how: str) -> int:
    words = [sys.executable, "-c", textwrap.dedent(PUBLISH), str(source), str(target), how]
    return subprocess.run(words, check=False, capture_output=True).returncode


@pytest.fixture
def source() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield folder(Path(name) / "parallel", "new" * 1000)


@elsewhere
def test_a_full_disk_leaves_both_folders_as_they_were(source: Path, tmp_path: Path) -> None:
    target = folder(tmp_path / "parallel", "old")
    assert published(source, target, "full") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["parallel"]
    assert (texts(target), texts(source)) == ({"old"}, {"new" * 1000})
    move_folder(source, target)
    assert texts(target) == {"new" * 1000}
    assert not source.exists()


@elsewhere
def test_what_a_killed_publish_left_is_removed(source: Path, tmp_path: Path) -> None:
    target = folder(tmp_path / "parallel", "old")
    assert published(source, target, "killed") == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == [".parallel.partial", "parallel"]
    remove_leftovers(tmp_path / ".parallel.partial")
    assert [path.name for path in tmp_path.iterdir()] == ["parallel"]
    assert (texts(target), texts(source)) == ({"old"}, {"new" * 1000})


def test_what_stood_there_comes_back(tmp_path: Path) -> None:
    """The process was killed between the two renames."""
    partial = killed_while_writing(tmp_path / "base")
    folder(partial / "base.old", "old")
    remove_leftovers(partial)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert texts(tmp_path / "base") == {"old"}


def test_a_folder_takes_a_file_s_place(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("a file")
    move_folder(folder(tmp_path / "made", "new"), tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_is_renamed_into_place_was_flushed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave a file that has its name and not its content."""
    flushed: set[int] = set()
    fsync, replace = os.fsync, os.replace

    def noting(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checked(source: Path, target: Path) -> None:
        assert source.stat().st_ino in flushed
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "replace", checked)
    write_json(tmp_path / "one.json", {})
    assert (tmp_path / "one.json").read_text() == "{}\n"
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "part").mkdir()
        (partial / "part/weights").write_bytes(bytes(8))
    for path in (tmp_path / "folder").rglob("*"):
        assert path.stat().st_ino in flushed


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
