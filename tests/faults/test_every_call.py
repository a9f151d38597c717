"""A kill or a full disk at every call that reaches the disk: the earlier state is intact, or the new one."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import injector
import pytest
import torch

import training_example
from mobius_pipeline.runtime import files
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder, folder_digest, move_folder, read_json, write_json
from mobius_pipeline.runtime.scratch import SCRATCHES
from mobius_pipeline.training.checkpoints import newest_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Change:
    """How a state is created, changed and read."""

    prepare: Callable[[Path], None]
    change: Callable[[Path], None]
    read: Callable[[Path], str]


def save(folder: Path, step: int) -> None:
    tensors = {"weight": torch.full((64,), float(step)), "ema": torch.full((64,), step / 3)}
    save_checkpoint(folder, training_example.checkpoint(step, tensors, flops=step / 7), keep_last=2)


def save_two(folder: Path) -> None:
    save(folder, 1)
    save(folder, 2)


def newest(folder: Path) -> str:
    """Read the whole newest checkpoint."""
    found = newest_checkpoint(folder)
    assert found is not None
    assert found.tensors["weight"].unique().tolist() == [float(found.step)]
    assert found.progress.history.flops == found.step / 7
    return str(found.step)


def publish(folder: Path, version: int) -> None:
    with atomic_folder(folder / "model") as partial:
        (partial / "unet").mkdir()
        for name in ("index.json", "unet/weights", f"of_{version}"):
            (partial / name).write_text(f"{name} of version {version}" * 50)


def move(folder: Path, version: int) -> None:
    """Replace a folder by one that a node has filled elsewhere, like a Kedro dataset."""
    filled = folder / "work/filled"
    shutil.rmtree(filled, ignore_errors=True)
    (filled / "unet").mkdir(parents=True)
    for name in ("index.json", "unet/weights", f"of_{version}"):
        (filled / name).write_text(f"{name} of version {version}" * 50)
    move_folder(filled, folder / "model")


CHANGES = {
    "checkpoint": Change(save_two, lambda folder: save(folder, 3), newest),
    "published folder": Change(
        lambda folder: publish(folder, 1),
        lambda folder: publish(folder, 2),
        lambda folder: folder_digest(folder / "model"),
    ),
    "moved folder": Change(
        lambda folder: move(folder, 1),
        lambda folder: move(folder, 2),
        lambda folder: folder_digest(folder / "model"),
    ),
    "JSON file": Change(
        lambda folder: write_json(folder / "run.json", {"run_id": "a" * 5000}),
        lambda folder: write_json(folder / "run.json", {"run_id": "b" * 5000}),
        lambda folder: str(read_json(folder / "run.json")),
    ),
}


def states(change: Change, tmp_path: Path) -> tuple[str, str, Iterator[tuple[int, Path]]]:
    """Return the states before and after the change, and numbered folders to change."""
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        change.prepare(tmp_path / name)
    change.change(tmp_path / "after")

    def copies() -> Iterator[tuple[int, Path]]:
        for number in count(1):
            yield number, Path(shutil.copytree(tmp_path / "before", tmp_path / str(number)))

    return change.read(tmp_path / "before"), change.read(tmp_path / "after"), copies()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


SLOW = [pytest.param(name, marks=pytest.mark.faults_slow) for name in ("published folder", "moved folder")]


@pytest.mark.parametrize("name", ["checkpoint", "JSON file", *SLOW])
def test_killed_at_every_call(name: str, tmp_path: Path) -> None:
    change = CHANGES[name]
    before, after, copies = states(change, tmp_path)
    seen = set()
    for number, folder in copies:
        killed = injector.killed_at(number, lambda folder=folder: change.change(folder))
        seen.add(change.read(folder))
        assert seen <= {before, after}, number
        change.change(folder)  # the same command again
        assert change.read(folder) == after, number
        assert names(folder) == names(tmp_path / "after"), number  # and nothing of the stopped one is left
        shutil.rmtree(folder)
        if not killed:
            break
    assert seen == {before, after}
    print(name, number - 1)
    assert number > 20


@pytest.mark.parametrize("name", CHANGES)
def test_without_room_at_every_call(name: str, tmp_path: Path) -> None:
    change = CHANGES[name]
    before, after, copies = states(change, tmp_path)
    for number, folder in copies:
        came = []
        with suppress(MobiusError, OSError):
            came = [True]
            came = [injector.no_room_at(number, lambda folder=folder: change.change(folder))]
        assert change.read(folder) in (before, after), number
        assert not list(folder.rglob(SCRATCHES)), number
        change.change(folder)
        assert change.read(folder) == after, number
        shutil.rmtree(folder)
        if came == [False]:
            break
    print(name, number - 1)
    assert number > 4


def test_a_checkpoint_without_room_says_what_to_do(tmp_path: Path) -> None:
    save_two(tmp_path)
    with pytest.raises(MobiusError, match=r"step-00000003 .*No space left on device.*make room"):
        injector.no_room_at(3, lambda: save(tmp_path, 3))


def test_where_folders_cannot_be_swapped_they_still_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(tmp_path, 1)
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    move(tmp_path, 2)
    assert names(tmp_path / "model") == {"index.json", "unet", "unet/weights", "of_2"}
    assert names(tmp_path) == {f"model/{name}" for name in names(tmp_path / "model")} | {"model", "work"}
    before = folder_digest(tmp_path / "model")
    for number in count(1):
        try:
            came = injector.no_room_at(number, lambda: move(tmp_path, 2))
        except OSError:
            assert folder_digest(tmp_path / "model") == before
            assert not list(tmp_path.glob(".*"))
            continue
        if not came:
            break


def test_the_injector_is_no_full_disk_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        injector.no_room_at(1, lambda: (tmp_path / "a").mkdir())
    assert raised.value.errno == errno.ENOSPC
    assert not injector.no_room_at(2, lambda: (tmp_path / "a").mkdir())
