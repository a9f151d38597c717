"""A realistic folder of clips: all kinds of input, and everything that can be wrong with one."""

import io
import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from mobius_pipeline.media.write import write_gif, write_mp4, write_webm, write_webp
from own_clips import write_own_clips

FPS = 12


def film(seed: int, count: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """Return frames of a multicoloured image that moves by two pixels per frame."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.stack([np.roll(picture, 2 * step, axis=1) for step in range(count)])


def write_dirty_folder(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Write the folder.

    Returns:
        The reason to exclude each bad source, and the good sources in addition to those of `own_clips`.
    """
    bad = write_own_clips(folder)
    return bad | _write_bad(folder), [
        *_write_sequence(folder),
        *_write_shard(folder),
        *_write_long_film(folder),
    ]


def _captioned(path: Path, caption: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def _write_sequence(folder: Path) -> list[str]:
    for name in ("shots/0001", "shots/no rate"):
        (folder / name).mkdir(parents=True)
        for index, pixels in enumerate(film(1)):
            Image.fromarray(pixels).save(folder / name / f"frame_{index:04d}.png")
        (folder / f"{name}.txt").write_text("a row of pictures")
    (folder / "shots/0001/sequence.json").write_text(json.dumps({"fps": FPS}))
    return ["shots/0001"]


def _write_shard(folder: Path) -> list[str]:
    (folder / "shards").mkdir()
    write_mp4(folder / "one.mp4", film(2), FPS)
    whole = (folder / "one.mp4").read_bytes()
    (folder / "one.mp4").unlink()
    members = {
        "a.mp4": whole,
        "a.txt": b"the first in a shard\nits second caption",
        "b.mp4": whole[:500],
        "b.txt": b"cut off in a shard",
        "../outside.mp4": whole,
    }
    with tarfile.open(folder / "shards/000.tar", "w") as shard:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))
    return ["shards/000.tar/a.mp4"]


def _write_long_film(folder: Path) -> list[str]:
    path = _captioned(folder / "long.webm", "three scenes")
    write_webm(path, np.concatenate([film(seed, 24) for seed in (3, 4, 5)]), FPS)
    return ["long.webm"]


def _write_bad(folder: Path) -> dict[str, str]:
    (folder / "nothing.mp4").write_bytes(b"")
    (folder / "playlist.mp4").write_text("ffconcat version 1.0\nfile long.webm\n")
    Image.new("RGB", (64, 64)).save(_captioned(folder / "still.png", "a still picture"))
    (folder / "bomb.gif").write_bytes(_bomb())
    write_gif(_captioned(folder / "copy.gif", "the same again"), film(1), FPS)
    write_gif(_captioned(folder / "copy of copy.gif", "and again"), film(1), FPS)
    write_webp(_captioned(folder / "frozen.webp", "it stands still"), _nearly_frozen(), FPS)
    outside = folder.parent / "outside.gif"
    write_gif(outside, film(7), FPS)
    (folder / "out.gif").symlink_to(outside)
    os.mkfifo(folder / "pipe.mp4")
    return {
        "nothing.mp4": "empty (0 bytes)",
        "playlist.mp4": "a text file",
        "still.png": "still picture",
        "bomb.gif": "more than 40,000,000 pixels",
        "copy.gif": "duplicate of copy of copy.gif",
        "frozen.webp": "too little motion",
        "out.gif": "leads outside",
        "pipe.mp4": "not a regular file",
        "shots/no rate": "sequence.json",
        "shards/000.tar/b.mp4": "cut off",
        "shards/000.tar/../outside.mp4": "leads out of the archive",
    }


def _bomb() -> bytes:
    """Return a GIF with two images of one pixel each on a canvas of 400 megapixels."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "GIF", save_all=True, append_images=[Image.new("L", (1, 1), 9)])
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", 20_000, 20_000)
    return bytes(data)


def _nearly_frozen() -> np.ndarray:
    frames = np.repeat(film(6)[:1], 20, axis=0)
    frames[::2, 0, 0] ^= 1  # else the writer would merge equal frames
    return frames
