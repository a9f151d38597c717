"""Lay out the report's line charts; `templates/chart.html` draws them as inline SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

WIDTH, HEIGHT = 460.0, 270.0  # SVG user units
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 12.0, 46.0  # margins for the labels
SMOOTH_PARTS = 12  # the smoothing window is one of this many parts of a training


@dataclass(frozen=True)
class Tick:
    """An axis tick: its position in SVG units and its label."""

    place: float
    label: str


@dataclass(frozen=True)
class Line:
    """A column's curve: its label, the index of the column, and its points in SVG units."""

    name: str
    column: int
    points: tuple[Point, ...]
    marked: bool

    @property
    def path(self) -> str:
        """Value of the polyline's `points` attribute."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True)
class Chart:
    """What the template draws; `level` is the y of the untrained base's line, None without one."""

    title: str
    x_title: str
    description: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    level: float | None
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def line_chart(
    title: str,
    x_title: str,
    curves: dict[str, list[Point]],
    *,
    start: float | None = None,
    marked: bool = False,
) -> Chart:
    """Lay out the columns' curves, (x, y) in data units, and a horizontal line at `start`."""
    xs = [x for curve in curves.values() for x, _ in curve]
    ys = [y for curve in curves.values() for _, y in curve] + ([] if start is None else [start])
    x_ticks, y_ticks = ticks(0, max(xs, default=1)), ticks(min(ys, default=0), max(ys, default=1))
    x_of = _scale(0, max([*xs, x_ticks[-1]]), LEFT, WIDTH - RIGHT)
    y_of = _scale(min([*ys, y_ticks[0]]), max([*ys, y_ticks[-1]]), HEIGHT - BOTTOM, TOP)
    return Chart(
        title,
        x_title,
        _description(title, curves, start),
        tuple(
            Line(name, column, tuple((x_of(x), y_of(y)) for x, y in curve), marked)
            for column, (name, curve) in enumerate(curves.items())
        ),
        tuple(Tick(x_of(value), label) for value, label in zip(x_ticks, labels(x_ticks), strict=True)),
        tuple(Tick(y_of(value), label) for value, label in zip(y_ticks, labels(y_ticks), strict=True)),
        None if start is None else y_of(start),
    )


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: first + (value - low) / span * (last - first)


def _description(title: str, curves: dict[str, list[Point]], start: float | None) -> str:
    """Return the chart's text alternative, for screen readers."""
    changes = [
        f"{name} from {curve[0][1]:.4f} to {curve[-1][1]:.4f}" for name, curve in curves.items() if curve
    ]
    level = "" if start is None else f"; the untrained base is at {start:.4f}"
    return f"{title}: {', '.join(changes) or 'nothing was recorded'}{level}."


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about `wanted` round numbers (1, 2 or 5 times a power of ten) that enclose low..high."""
    span = (high - low) or abs(high) or 1.0
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """Format ticks with just enough decimals to distinguish them."""
    step = min((abs(b - a) for a, b in pairwise(values)), default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:,.{decimals}f}" for value in values]


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the centred moving mean; the window is a twelfth of the values, cut off at both ends."""
    reach = len(values) // SMOOTH_PARTS // 2
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)

    def mean(index: int) -> float:
        first, last = max(0, index - reach), min(len(values), index + reach + 1)
        return (sums[last] - sums[first]) / (last - first)

    return [mean(index) for index in range(len(values))]
