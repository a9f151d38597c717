import base64
import csv
import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.sources import emoji as module
from mobius_pipeline.sources.emoji import FetchConfig, PackageConfig, download, fetch, unpack, verify

Fetch = Callable[..., Path]


def webp(frames: int) -> bytes:
    images = [Image.new("RGB", (16, 16), (40 * index, 0, 0)) for index in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:], duration=40, lossless=True)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def add_link(tar: tarfile.TarFile, name: str, kind: bytes, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    tar.addfile(member)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "package/package.json", json.dumps({"license": "MIT"}).encode())
        add(tar, "package/assets/1f600.webp", webp(3))
        add(tar, "package/assets/1f44d-1f3fb.webp", webp(2))
        add(tar, "package/assets/1f4a9.webp", webp(1))
    return path


def spoiled(tmp_path: Path) -> Path:
    path = tmp_path / "spoiled.tgz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "package/1f600.webp", webp(2))
        add(tar, "package/more/1f600.webp", webp(3))
        add(tar, "../1f601.webp", webp(2))
        add(tar, "package/../../1f602.webp", webp(2))
        add(tar, "/tmp/1f603.webp", webp(2))
        add(tar, "package/..\\1f604.webp", webp(2))
        add(tar, "package/smile.webp", webp(2))
        add(tar, "package/1f605.webp", b"not a picture")
        add(tar, "package/1f609.webp", webp(2)[:40])
        add_link(tar, "package/1f606.webp", tarfile.SYMTYPE, "/etc/passwd")
        add_link(tar, "package/1f607.webp", tarfile.LNKTYPE, "package/1f600.webp")
        add_link(tar, "package/1f608.webp", tarfile.FIFOTYPE, "")
    return path


def package(archive: Path) -> PackageConfig:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    return PackageConfig(name="@some/emoji", version="1.0.0", integrity=f"sha512-{digest}")


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def fetched(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    fake_npm(tmp_path / "bin", monkeypatch, f'echo "$@" > {tmp_path}/said; cp {archive} some-emoji-1.0.0.tgz')
    return lambda limit=None: fetch(
        FetchConfig(package=package(archive), limit=limit), tmp_path / "work" / "fetch"
    )


def rows(folder: Path) -> list[tuple[str, str]]:
    with (folder / "captions.csv").open(encoding="utf-8") as file:
        return [(row["file"], row["caption"]) for row in csv.DictReader(file)]


def test_animated_files_are_kept_with_captions_and_provenance(fetched: Fetch, tmp_path: Path) -> None:
    folder = fetched()
    assert rows(folder) == [
        ("1f600.webp", "an animated emoji of a grinning face, on a white background"),
        ("1f44d-1f3fb.webp", "an animated emoji of a thumbs up with light skin tone, on a white background"),
    ]
    assert (folder / "1f600.webp").read_bytes() == webp(3)
    assert {path.name for path in folder.iterdir()} == {
        *("1f600.webp", "1f44d-1f3fb.webp", "captions.csv", "provenance.json")
    }
    record = json.loads((folder / "provenance.json").read_text())
    assert record.pop("integrity").startswith("sha512-")
    assert record == {
        "package": "@some/emoji",
        "version": "1.0.0",
        "licence": "MIT",
        **{"kept": 2, "static": 1, "beyond_limit": 0, "refused": 0},
    }
    assert (tmp_path / "said").read_text().startswith("pack @some/emoji@1.0.0")
    assert [path.name for path in folder.parent.iterdir()] == ["fetch"], "the download is cleaned up"


def test_limit_keeps_the_first_and_counts_the_others(fetched: Fetch) -> None:
    folder = fetched(limit=1)
    assert [name for name, _ in rows(folder)] == ["1f600.webp"]
    assert json.loads((folder / "provenance.json").read_text())["beyond_limit"] == 1


def test_fetching_again_replaces_what_was_there(fetched: Fetch) -> None:
    fetched()
    assert len(rows(fetched(limit=1))) == 1
    assert not (fetched(limit=1) / "1f44d-1f3fb.webp").exists()


def test_members_that_are_not_plain_files_with_plain_names_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "out"
    folder.mkdir(parents=True)
    result = unpack(spoiled(tmp_path), folder, limit=None)
    assert result.kept == ["1f600.webp"]
    assert (folder / "1f600.webp").read_bytes() == webp(2), "the first of two files with one name stays"
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["out", "1f600.webp"]
    reasons = {Path(name.replace("\\", "/")).name: reason for name, reason in result.refused.items()}
    assert len(result.refused) == 11
    assert all("plain relative path" in reasons[f"1f60{n}.webp"] for n in (1, 2, 3, 4))
    assert all("not a regular file" in reasons[f"1f60{n}.webp"] for n in (6, 7, 8))
    assert all("not a readable WebP" in reasons[f"1f60{n}.webp"] for n in (5, 9))
    assert "code points" in reasons["smile.webp"]
    assert "second file" in reasons["1f600.webp"]


def test_what_is_refused_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = spoiled(tmp_path)
    fake_npm(tmp_path / "bin", monkeypatch, f"cp {path} x.tgz")
    with caplog.at_level(logging.INFO):
        folder = fetch(FetchConfig(package=package(path), limit=None), tmp_path / "work" / "fetch")
    assert "refused '../1f601.webp': its name is not a plain relative path" in caplog.text
    assert "1 animated emoji kept; left out: 0 static, 0 beyond the limit, 11 refused" in caplog.text
    record = json.loads((folder / "provenance.json").read_text())
    assert (record["refused"], record["licence"]) == (11, "not stated")


def test_a_file_too_large_for_an_emoji_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    result = unpack(archive, tmp_path, limit=None)
    assert not result.kept
    assert result.refused
    assert all("too large" in reason for reason in result.refused.values())


def test_another_download_than_the_pinned_one_is_refused_whole(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = package(archive)
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(MobiusError, match="not the pinned one") as error:
        verify(archive, pinned)
    assert pinned.integrity in str(error.value)
    fake_npm(tmp_path / "bin", monkeypatch, f"cp {archive} x.tgz")
    with pytest.raises(MobiusError, match="not the pinned one"):
        fetch(FetchConfig(package=pinned, limit=None), tmp_path / "work" / "fetch")
    assert not (tmp_path / "work" / "fetch").exists()


def test_a_missing_npm_is_explained(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(MobiusError, match=r"Install Node\.js from your system's package manager"):
        download(package(archive), tmp_path)


def test_npms_own_words_are_shown_when_it_fails(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, "echo 'npm error ETARGET no such version' >&2; exit 3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MobiusError, match=r"exit code 3\)(.|\n)*ETARGET no such version(.|\n)*registry"):
        download(package(archive), tmp_path / "empty")


def test_a_package_without_animated_emoji_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "still.tgz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "package/1f600.webp", webp(1))
    fake_npm(tmp_path / "bin", monkeypatch, f"cp {path} x.tgz")
    with pytest.raises(MobiusError, match=r"no animated emoji \(1 static"):
        fetch(FetchConfig(package=package(path), limit=None), tmp_path / "work" / "fetch")


def test_an_environment_without_a_package_says_which_has_one(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="--env=emoji"):
        fetch(FetchConfig(package=None, limit=None), tmp_path / "fetch")


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "^1.0.0"},
        {"version": "latest"},
        {"integrity": "sha1-abc"},
        {"name": "--registry=x"},
        {"name": "../x"},
    ],
)
def test_only_exact_pins_are_accepted(archive: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PackageConfig.model_validate({**package(archive).model_dump(), **wrong})
