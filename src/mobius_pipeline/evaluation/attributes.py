"""Recognise the colour, shape and motion of sampled videos, for captions of the sample clips only.

No network is used: the foreground is what differs from the border's colour; its hue is compared with the
named colours, and its outline, path and growth with rendered ones. The thresholds were calibrated on rendered
clips with blur, noise and JPEG artefacts (tests/evaluation/test_attributes.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.sources.scenes import COLOURS, MOTION_S, MOTIONS, SHAPES, Scene, parse_caption, render

Floats = npt.NDArray[np.float64]
Attribute = str  # "colour", "shape", "motion" or "prompt_match"

# Contrast and chroma in RGB from 0 to 1; the lowest values of the sample clips are 0.55 and 0.36.
MIN_CONTRAST = 0.2
MIN_CHROMA = 0.12
MIN_OVERLAP = 0.7  # intersection over union with the nearest outline
MIN_MOTION = 0.35  # share of a sample clip's full motion
MIN_LIKENESS = 0.75  # cosine of a video's path and a motion's path; shuffled frames seldom reach it
MIN_AREA = 12.0  # px; a smaller foreground has no outline

# Sides of the frame that a step in log radius counts for, so that all motions have the same weight.
_GROWTH_WEIGHT = 0.4
_FULL_SECONDS = 0.875  # s; from the first to the last frame of a model's clip: 8 frames at 8 per second
_PATCH = 32  # side of a normalised outline, in samples
_REACH = 1.9  # half the side of a normalised outline, in radii of the disc of equal area
_TEMPLATE_SIZES = (0.2, 0.38, 0.55)
_TEMPLATE_BLURS = (0.0, 0.015, 0.03)  # of the frame's side


@dataclass(frozen=True)
class Recognised:
    """The attributes of a video, in the vocabulary of the sample captions; None where none is clear."""

    colour: str | None
    shape: str | None
    motion: str | None


@dataclass(frozen=True)
class Blob:
    """The foreground of one frame: `mask` (H, W) in 0..1, its centre and the radius of its area, in px."""

    mask: Floats
    x: float
    y: float
    radius: float


def recognise(frames: Pixels) -> Recognised:
    """Name the colour, shape and motion of a video, uint8 (F, H, W, 3)."""
    blobs = find_blobs(frames)
    seen = [blob for blob in blobs if blob is not None]
    if 2 * len(seen) < len(blobs):
        return Recognised(None, None, None)
    return Recognised(name_colour(frames, blobs), name_shape(seen), name_motion(blobs))


def score(frames: Pixels, prompt: str) -> dict[Attribute, int] | None:
    """Return 1 or 0 for each attribute: whether a video shows its prompt's colour, shape, motion, all three.

    Args:
        frames: The video, uint8 (F, H, W, 3).
        prompt: Its prompt.

    Returns:
        None if `prompt` is not a caption of a sample clip.
    """
    scene = parse_caption(prompt)
    if scene is None:
        return None
    seen = recognise(frames)
    hits = {name: int(getattr(seen, name) == getattr(scene, name)) for name in ("colour", "shape", "motion")}
    return {**hits, "prompt_match": int(all(hits.values()))}


def scores(videos: Sequence[Pixels], prompts: Sequence[str]) -> dict[Attribute, float | None]:
    """Return the share of videos, each uint8 (F, H, W, 3), that show each attribute of their prompts.

    It is None if no prompt is a caption of a sample clip.
    """
    rows = [score(video, prompt) for video, prompt in zip(videos, prompts, strict=True)]
    known = [row for row in rows if row is not None]
    names = ("colour", "shape", "motion", "prompt_match")
    return {name: fmean(row[name] for row in known) if known else None for name in names}


def find_blobs(frames: Pixels) -> list[Blob | None]:
    """Find the largest foreground object of each frame, (F, H, W, 3); None where there is none."""
    distance = np.linalg.norm(_unit(frames) - background_colour(frames), axis=-1)
    level = _top_mean(distance)
    if level < MIN_CONTRAST:
        return [None] * len(frames)
    return [_largest(np.minimum(frame / level, 1.0)) for frame in distance]


def background_colour(frames: Pixels) -> Floats:
    """Return the median colour, (3,) in 0..1, of the frames' outermost pixels."""
    unit = _unit(frames)
    border = (unit[:, 0], unit[:, -1], unit[:, :, 0], unit[:, :, -1])
    return np.asarray(np.median(np.concatenate([side.reshape(-1, 3) for side in border]), axis=0))


def _unit(frames: Pixels) -> Floats:
    return np.asarray(frames, dtype=np.float64) / 255


def _top_mean(distance: Floats) -> float:
    """Return the mean of the largest hundredth: the foreground's full contrast, even under noise or blur."""
    count = max(1, distance.size // 100)
    return float(np.partition(distance.ravel(), -count)[-count:].mean())


def _largest(frame: Floats) -> Blob | None:
    """Return the largest connected area above half contrast, where blur does not move edges."""
    labels, count = ndimage.label(frame > 0.5)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    body = labels == 1 + int(sizes.argmax())
    area = float(ndimage.binary_fill_holes(body).sum())  # filled, so that a closing ring keeps its radius
    if area < MIN_AREA:
        return None
    mask = np.where(ndimage.binary_dilation(body, iterations=2), frame, 0.0)
    y, x = ndimage.center_of_mass(mask)
    return Blob(mask, float(x), float(y), math.sqrt(area / math.pi))


def name_colour(frames: Pixels, blobs: Sequence[Blob | None]) -> str | None:
    """Name the foreground's hue; None if it is nearly grey.

    Hue is the direction of (r, g, b) minus its mean. Mixing with white, grey or black, as blur and
    antialiasing do, does not change it.
    """
    pairs = [(frame, blob.mask) for frame, blob in zip(_unit(frames), blobs, strict=True) if blob is not None]
    colours = np.concatenate([frame[mask > 0.5] for frame, mask in pairs])
    chroma = _chroma(colours).mean(axis=0)
    strength = float(np.linalg.norm(chroma))
    if strength < MIN_CHROMA:
        return None
    return max(COLOURS, key=lambda name: float(chroma @ _direction(COLOURS[name])))


def _chroma(colours: Floats) -> Floats:
    return np.asarray(colours - colours.mean(axis=-1, keepdims=True))


def _direction(colour: tuple[int, int, int]) -> Floats:
    chroma = _chroma(np.array(colour, dtype=np.float64))
    return np.asarray(chroma / np.linalg.norm(chroma))


def name_shape(blobs: Sequence[Blob]) -> str | None:
    """Name the outline with the largest overlap with the blobs' mean outline; None if it is too small."""
    height, width = blobs[0].mask.shape
    outline = _mean_outline(blobs)
    overlaps = {
        shape: max(_overlap(outline, template) for template in templates)
        for shape, templates in _templates(height, width).items()
    }
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] >= MIN_OVERLAP else None


def _mean_outline(blobs: Sequence[Blob]) -> Floats:
    """Average the outlines over frames, weighted by area, because large blobs are sharper."""
    areas = [blob.radius**2 for blob in blobs]
    return np.asarray(np.average([_outline(blob) for blob in blobs], axis=0, weights=areas))


def _outline(blob: Blob) -> Floats:
    """Return the mask, centred and scaled to its radius: (_PATCH, _PATCH)."""
    steps = np.linspace(-_REACH, _REACH, _PATCH) * blob.radius
    y, x = np.meshgrid(blob.y + steps, blob.x + steps, indexing="ij")
    return np.asarray(ndimage.map_coordinates(blob.mask, [y, x], order=1, mode="constant"))


def _overlap(first: Floats, second: Floats) -> float:
    """Return the intersection over union of two soft masks."""
    return float(np.minimum(first, second).sum() / np.maximum(first, second).sum())


@lru_cache
def _templates(height: int, width: int) -> dict[str, list[Floats]]:
    """Render the outlines of every shape in frames of this size: small to large, sharp to blurred."""
    return {
        shape: [
            outline
            for size in _TEMPLATE_SIZES
            for blur in _TEMPLATE_BLURS
            if (outline := _template(shape, height, width, size, blur * min(height, width))) is not None
        ]
        for shape in SHAPES
    }


def _template(shape: str, height: int, width: int, size: float, blur: float) -> Floats | None:
    # A sliding shape is in the frame's centre at half of its time.
    scene = Scene(shape=shape, colour="red", motion="sliding right", background="black")
    frames = render(scene, times=[MOTION_S / 2], height=height, width=width, size=size)
    blurred = ndimage.gaussian_filter(frames, (0, blur, blur, 0)) if blur else frames
    (blob,) = find_blobs(blurred)
    return None if blob is None else _outline(blob)


def name_motion(blobs: Sequence[Blob | None]) -> str | None:
    """Name the motion whose path is most similar to the blobs'; None if it is too different or too faint."""
    seen = [index for index, blob in enumerate(blobs) if blob is not None]
    if len(seen) < 2:
        return None
    path = _centred(_path([blob for blob in blobs if blob is not None]))
    paths = {motion: _centred(rendered[seen]) for motion, rendered in _motion_paths(len(blobs)).items()}
    likeness = {motion: _cosine(path, rendered) for motion, rendered in paths.items()}
    best = max(likeness, key=lambda motion: likeness[motion])
    share = likeness[best] * float(np.linalg.norm(path) / np.linalg.norm(paths[best]))
    return best if likeness[best] >= MIN_LIKENESS and share >= MIN_MOTION else None


def _path(blobs: Sequence[Blob]) -> Floats:
    """Return x and y in sides of the frame, and the weighted log radius, of each blob: (F, 3)."""
    side = min(blobs[0].mask.shape)
    return np.array(
        [(blob.x / side, blob.y / side, _GROWTH_WEIGHT * math.log(blob.radius)) for blob in blobs]
    )


def _centred(path: Floats) -> Floats:
    return np.asarray(path - path.mean(axis=0))


def _cosine(first: Floats, second: Floats) -> float:
    return float((first * second).sum() / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-9))


@lru_cache
def _motion_paths(frames: int) -> dict[str, Floats]:
    """Render the path of every motion, (frames, 3), over the time span of a model's clip."""
    times = np.linspace(0, _FULL_SECONDS, frames).tolist()
    paths = {}
    for motion in MOTIONS:
        scene = Scene(shape="circle", colour="red", motion=motion, background="black")
        blobs = find_blobs(render(scene, times=times, height=64, width=64))
        paths[motion] = _path([blob for blob in blobs if blob is not None])
    return paths
