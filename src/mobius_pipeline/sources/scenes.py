"""Draw the scenes of sample clips: one coloured shape in one motion on a plain background, and its caption.

Everything that a caption says is visible in the pixels, so a generated video can be scored against its
prompt. `render` draws one scene; `sample_clips.write_set` writes a folder of them.
"""

import itertools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

SHAPES = ("circle", "ring", "triangle", "cross", "bar", "pillar")
COLOURS: dict[str, Colour] = {
    "red": (225, 25, 25),
    "green": (20, 160, 40),
    "blue": (30, 60, 230),
    "yellow": (250, 210, 10),
    "pink": (245, 60, 190),
    "cyan": (15, 200, 215),
}
BACKGROUNDS: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
# Each motion has its own positions, so that a T2I base recognises it in single frames; only their order is
# left for the video.
MOTIONS = ("sliding right", "falling", "climbing", "diving", "circling", "growing")

MOTION_S = 1.0  # duration of a motion, s; then it runs backwards
SMALLEST, LARGEST = 0.5, 1.5  # factors of a shape's size at the start and end of growing
_SUPERSAMPLING = 4
_DIRECTIONS: dict[str, Point] = {
    "sliding right": (1.0, 0.0),
    "falling": (0.0, 1.0),
    "climbing": (1.0, -1.0),  # to the upper right
    "diving": (1.0, 1.0),  # to the lower right
}
_GRAMMAR = re.compile(
    rf"a ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) ({'|'.join(MOTIONS)}) "
    rf"on a ({'|'.join(BACKGROUNDS)}) background"
)


@dataclass(frozen=True)
class Scene:
    """What a sample clip shows; the words are from `SHAPES`, `COLOURS`, `MOTIONS` and `BACKGROUNDS`."""

    shape: str
    colour: str
    motion: str
    background: str


def caption(scene: Scene) -> str:
    """Return the caption of a scene, such as "a red circle falling on a white background"."""
    return f"a {scene.colour} {scene.shape} {scene.motion} on a {scene.background} background"


def parse_caption(text: str) -> Scene | None:
    """Parse a caption into its scene; return None if `text` is not a caption of a sample clip."""
    match = _GRAMMAR.fullmatch(text.strip().lower())
    if match is None:
        return None
    colour, shape, motion, background = match.groups()
    return Scene(shape=shape, colour=colour, motion=motion, background=background)


def scenes(count: int, seed: int) -> list[Scene]:
    """Choose `count` random scenes with each word equally often; none repeats before all 648 were chosen.

    The combinations are drawn in 108 blocks of 6. Each block has every shape, colour and motion once (a
    diagonal of the 6 x 6 x 6 cube) and every background twice.
    """
    rng = random.Random(seed)
    chosen: list[Scene] = []
    while len(chosen) < count:
        blocks = list(itertools.product(range(6), range(6), range(3)))
        for block in rng.sample(blocks, len(blocks)):
            chosen += [_diagonal(step, *block) for step in rng.sample(range(6), 6)]
    return chosen[:count]


def _diagonal(step: int, colour_shift: int, motion_shift: int, background_shift: int) -> Scene:
    return Scene(
        shape=SHAPES[step],
        colour=list(COLOURS)[(step + colour_shift) % 6],
        motion=MOTIONS[(step + motion_shift) % 6],
        background=list(BACKGROUNDS)[(step + background_shift) % 3],
    )


def render(
    scene: Scene,
    *,
    times: Sequence[float],
    height: int,
    width: int,
    size: float = 0.38,
    offset: Point = (0.0, 0.0),
) -> npt.NDArray[np.uint8]:
    """Draw a scene at each of `times`, antialiased (drawn four times as large, then averaged).

    The shape stays inside the frame's central square, so a centre crop loses nothing.

    Args:
        scene: What to draw.
        times: Seconds from the start of the motion.
        height: Frame height in px.
        width: Frame width in px.
        size: Side of the shape's bounding box, as a share of the central square's side.
        offset: Shift of the whole path to the right and down, in the same unit.

    Returns:
        uint8 (len(times), height, width, 3).
    """
    frames = [_frame(scene, time, height, width, size, offset) for time in times]
    return np.stack(frames)


def placed(motion: str, time: float, size: float, offset: Point) -> tuple[Point, float]:
    """Return the centre and side of the shape after `time` seconds, in units of the central square's side.

    The path is shortened by twice the offset, which keeps the shape inside the square.
    """
    progress = 1 - abs(1 - time / MOTION_S % 2)
    centre = 0.5 + offset[0], 0.5 + offset[1]
    if motion == "growing":
        return centre, size * (SMALLEST + (LARGEST - SMALLEST) * progress)
    reach = (1 - size) / 2 - max(abs(offset[0]), abs(offset[1]))
    if motion == "circling":  # once around, clockwise from the top
        angle = 2 * np.pi * progress
        return (centre[0] + reach * float(np.sin(angle)), centre[1] - reach * float(np.cos(angle))), size
    right, down = _DIRECTIONS[motion]
    way = reach * (2 * progress - 1)
    return (centre[0] + right * way, centre[1] + down * way), size


def _frame(
    scene: Scene, time: float, height: int, width: int, size: float, offset: Point
) -> npt.NDArray[np.uint8]:
    side = min(height, width) * _SUPERSAMPLING
    left, top = (width * _SUPERSAMPLING - side) / 2, (height * _SUPERSAMPLING - side) / 2
    (x, y), extent = placed(scene.motion, time, size, offset)
    background = BACKGROUNDS[scene.background]
    image = Image.new("RGB", (width * _SUPERSAMPLING, height * _SUPERSAMPLING), background)
    pen = _Pen(ImageDraw.Draw(image), left + x * side, top + y * side, extent * side / 2)
    _DRAWN[scene.shape](pen, COLOURS[scene.colour], background)
    return np.asarray(image.reduce(_SUPERSAMPLING))


@dataclass(frozen=True)
class _Pen:
    """Draws in a shape's coordinates, -1 to 1 around its centre (x, y) px; `half` is half its side in px."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    half: float

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.draw.polygon([(self.x + u * self.half, self.y + v * self.half) for u, v in points], fill=colour)

    def disc(self, radius: float, colour: Colour) -> None:
        reach = radius * self.half
        self.draw.ellipse((self.x - reach, self.y - reach, self.x + reach, self.y + reach), fill=colour)


_THICKNESS = 0.4  # half a bar's shorter side
_BAR: list[Point] = [(-1.0, -_THICKNESS), (1.0, -_THICKNESS), (1.0, _THICKNESS), (-1.0, _THICKNESS)]
_PILLAR: list[Point] = [(y, x) for x, y in _BAR]
_TRIANGLE: list[Point] = [(0.0, -1.0), (1.0, 0.9), (-1.0, 0.9)]
_ARM = 0.33  # half the width of a cross's arms
_CROSS: list[Point] = [
    *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
    *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
]


def _ring(pen: _Pen, colour: Colour, background: Colour) -> None:
    pen.disc(1.0, colour)
    pen.disc(0.55, background)


_DRAWN: dict[str, Callable[[_Pen, Colour, Colour], None]] = {
    "circle": lambda pen, colour, _: pen.disc(1.0, colour),
    "ring": _ring,
    "triangle": lambda pen, colour, _: pen.polygon(_TRIANGLE, colour),
    "cross": lambda pen, colour, _: pen.polygon(_CROSS, colour),
    "bar": lambda pen, colour, _: pen.polygon(_BAR, colour),
    "pillar": lambda pen, colour, _: pen.polygon(_PILLAR, colour),
}
