"""Clips like those of a user: various sizes, rates and names, and unusable files."""

import csv
from pathlib import Path

import numpy as np

from mobius_pipeline.media.write import write_gif, write_mp4, write_webm, write_webp


def write_own_clips(folder: Path) -> dict[str, str]:
    """Write clips like those of a user; return the reason to exclude each bad one."""
    rng = np.random.default_rng(0)

    def film(name: str, frames: int = 20, height: int = 50, width: int = 70, fps: float = 12) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        still = rng.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 3), dtype=np.uint8)
        moving = np.stack([np.roll(still, step, axis=1) for step in range(frames)])
        pixels = moving.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
        write = {".mp4": write_mp4, ".webm": write_webm, ".gif": write_gif, ".webp": write_webp}[path.suffix]
        write(path, pixels, fps)
        return path

    for index in range(12):
        film(f"Ferien am Meer/{index} & größer.mp4", fps=25, width=96 + 2 * index).with_suffix(
            ".txt"
        ).write_text(f"sea number {index}", encoding="utf-8")
    rows = [("file", "caption")]
    for index, suffix in enumerate((".webm", ".gif", ".webp") * 3):
        name = f"sub/folder/日本 {index}{suffix}"
        size = (
            {"height": 34, "width": 46} if suffix == ".webm" else {"height": 45, "width": 37}
        )  # odd numbers too
        film(name, fps=10, **size)
        rows.append((name, f"noise number {index}"))
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    film("no words.mp4")
    film("short.gif", frames=2).with_suffix(".txt").write_text("a blink")
    whole = film("cut.mp4")
    whole.write_bytes(whole.read_bytes()[:300])
    (folder / "letter.mp4").write_text("Dear reader, this is not a video.")
    return {"no words.mp4": "no caption", "short.gif": "frames", "cut.mp4": "", "letter.mp4": ""}
