"""Shards list their rows, are verified once per process, and are memory-mapped."""

import os
from pathlib import Path

import pytest
import torch

from mobius_pipeline.latents import shards
from mobius_pipeline.latents.shards import is_intact, mapped, row_names, write_shard
from mobius_pipeline.runtime.errors import MobiusError


def test_a_shard_says_what_it_holds(tmp_path: Path) -> None:
    tensor = torch.arange(6).reshape(2, 3).half()
    name = write_shard(tmp_path, "text", ["a ring", 'a "disc", é'], {"embedding": tensor})
    assert row_names(tmp_path / name) == ["a ring", 'a "disc", é']
    assert torch.equal(mapped(tmp_path / name)["embedding"], tensor)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_equal_shards_are_equal_files(tmp_path: Path) -> None:
    tensors = {"mean": torch.ones(2, 3), "logvar": torch.zeros(2, 3)}
    assert write_shard(tmp_path, "shard", ["a", "b"], tensors) == write_shard(
        tmp_path, "shard", ["a", "b"], dict(reversed(tensors.items()))
    )
    write_shard(tmp_path, "shard", ["b", "a"], tensors)
    assert len(list(tmp_path.iterdir())) == 2  # other rows, another shard


@pytest.mark.parametrize("damage", ["a byte", "its end", "all of it"])
def test_damage_is_found_and_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / write_shard(tmp_path, "shard", ["a"], {"mean": torch.rand(1, 1000)})
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    {
        "a byte": lambda: path.write_bytes(data),
        "its end": lambda: path.write_bytes(data[:-100]),
        "all of it": lambda: path.write_bytes(b""),
    }[damage]()
    assert not is_intact(path)
    with pytest.raises(MobiusError, match=rf"{path.name}.*damaged.*pipelines=encode"):
        mapped(path)


def test_a_shard_is_hashed_once_and_again_when_it_was_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / write_shard(tmp_path, "shard", ["a"], {"mean": torch.rand(1, 1000)})
    hashed: list[Path] = []
    original = shards.sha256

    def noting(path: Path) -> str:
        hashed.append(path)
        return original(path)

    monkeypatch.setattr(shards, "sha256", noting)
    for _ in range(3):
        mapped(path)
    assert hashed == [path]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))  # clocks of file systems tick every few ms
    with pytest.raises(MobiusError):
        mapped(path)


def test_rows_of_a_damaged_header_are_none(tmp_path: Path) -> None:
    path = tmp_path / "shard-00.safetensors"
    path.write_bytes(b"\xff" * 100)
    assert row_names(path) == []
