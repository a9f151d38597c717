"""Read folders of numbered images as clips: `shots/0001/` with 0001.png, 0002.png … and a sequence.json."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.frames import DecodeOptions, Frame, Media, Pixels, composed
from mobius_pipeline.media.open_source import open_bytes

SEQUENCE = "sequence.json"
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_DEEP = ("I", "F")  # Pillow's modes of 16 bits and more, which it would clip to 8
_TICK = 0.001


@contextmanager
def open_folder(path: Path, options: DecodeOptions) -> Iterator[Media]:
    """Open a folder of numbered images; see `decode.open_media`."""
    images = numbered(path)
    fps = _rate(path)
    options.limits.allow_length(len(images), len(images) / fps)
    first = _read(images[0], options)
    yield Media(
        container="images",
        codec=images[0].suffix.lower().lstrip("."),
        width=first.width,
        height=first.height,
        tick=min(_TICK, 1 / fps / 2),
        frames=_frames(images, fps, first.size, options),
    )


def numbered(folder: Path) -> list[Path]:
    """Return the images in `folder`, sorted by the last number in their names.

    Raises:
        MediaError: If there are fewer than two, one has no number, or a number is missing or occurs twice.
    """
    images: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGES or path.name.startswith("."):
            continue
        if not path.is_file():
            raise MediaError(f"{path.name} is not a regular file or a link to one")
        number = _number(path)
        if number in images:
            raise MediaError(f"{images[number].name} and {path.name} have the same number")
        images[number] = path
    if len(images) < 2:
        raise MediaError(f"a folder with {len(images)} numbered images, not a clip")
    missing = next((number for number in range(min(images), max(images)) if number not in images), None)
    if missing is not None:
        raise MediaError(f"image number {missing} is missing (they go from {min(images)} to {max(images)})")
    return [images[number] for number in sorted(images)]


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise MediaError(f"{path.name} has no number in its name")
    return int(digits[-1])


def _rate(folder: Path) -> float:
    """Return the frames per second that `sequence.json` gives."""
    try:
        fps = json.loads((folder / SEQUENCE).read_text("utf-8"))["fps"]
    except FileNotFoundError:
        raise MediaError(
            f'its frame rate is unknown: write it into {SEQUENCE} beside the images, such as {{"fps": 24}}'
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(f'{SEQUENCE} must have the form {{"fps": 24}} ({error})') from error
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise MediaError(f"{SEQUENCE} gives {fps!r} frames a second: it must be a number above 0")
    return float(fps)


def _frames(images: list[Path], fps: float, size: tuple[int, int], options: DecodeOptions) -> Iterator[Frame]:
    for index, path in enumerate(images):
        if (index + 1) / fps < options.start_s - _TICK:
            continue
        image = _read(path, options)
        if image.size != size:
            raise MediaError(
                f"{path.name} has {image.width} x {image.height} px, {images[0].name} {size[0]} x {size[1]}"
            )
        yield Frame(
            index / fps,
            1 / fps,
            lambda image=image: _rgb(image, options),  # type: ignore[misc]
        )


def _read(path: Path, options: DecodeOptions) -> Image.Image:
    with open_bytes(path) as file, Image.open(file) as image:
        options.limits.allow_size(*image.size)
        if image.mode.startswith(_DEEP):
            raise MediaError(f"{path.name} has more than 8 bits per channel: save it with 8")
        if getattr(image, "n_frames", 1) > 1:
            raise MediaError(f"{path.name} is animated: each image must be one frame")
        return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image, options: DecodeOptions) -> Pixels:
    return composed(np.asarray(image.convert("RGBA")), options.background)
