"""Plots of a study: loss against memory, loss against time, and loss curves."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from mobius_pipeline.runtime.files import atomic_folder
from mobius_pipeline.study.model import ModelResult, Study
from mobius_pipeline.study.report import Cost

_MARKERS = "soD^vP*X"  # one for serial, and one per tail
_SIZE = (7.5, 5.2)  # inches
# Places of a name beside its point (in points), with the alignment there, best first.
_BESIDE = [
    ((7 * side, up), "left" if side > 0 else "right") for up in (4, -5, 13, -14, 23, -24) for side in (1, -1)
]
_MARK = 8  # px; width and height of a marker
_CURVES = 6  # more cannot be distinguished


def draw(study: Study, target: Path) -> Path:
    """Write `memory.png`, `time.png` and `curves.png` of a study's report into a folder."""
    import matplotlib

    matplotlib.use("Agg")
    with atomic_folder(target) as partial:
        _scatter(study, "peak_ratio", "Peak memory / serial's", study.fronts.memory, partial / "memory.png")
        _scatter(study, "step_ratio", "Step time / serial's", study.fronts.time, partial / "time.png")
        _curves(study, partial / "curves.png")
    return target


def _scatter(study: Study, cost: Cost, title: str, front: Sequence[str], file: Path) -> None:
    """Plot every model's loss at equal compute against a cost, both as shares of serial's."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
    rows = study.models
    families = dict.fromkeys(_family(name) for name in rows)
    markers = dict(zip(families, cycle(_MARKERS)))
    points = {name: (float(getattr(row, cost)), row.equal_compute.ratio) for name, row in rows.items()}
    for name, row in rows.items():
        family, (x, y) = _family(name), points[name]
        axes.errorbar(
            x, y, yerr=_error(row), marker=markers[family], color=_colour(row), capsize=2, linewidth=0.7
        )
    for family, marker in markers.items():
        axes.plot([], [], marker=marker, color="grey", linestyle="none", label=family)
    axes.legend()
    axes.plot(
        [points[name][0] for name in front],
        [points[name][1] for name in front],
        color="grey",
        linewidth=0.8,
        zorder=0,
    )
    axes.axhline(1, color="lightgrey", linewidth=0.8, zorder=0)
    axes.set(xlabel=title, ylabel="Held-out loss at equal compute / serial's")
    words = {name: name.removeprefix(_family(name)).removeprefix(", ") for name in rows}
    _label(axes, [(words[name], points[name], _colour(row)) for name, row in rows.items()])
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def _label(axes: Any, names: Sequence[tuple[str, tuple[float, float], Any]]) -> None:
    """Label each point with its name, in its colour, where it overlaps the fewest names and points."""
    from matplotlib.transforms import Bbox

    axes.figure.canvas.draw()  # computes the layout, so that extents in pixels are known
    marks = [axes.transData.transform(point) for _, point, _ in names]
    taken = [Bbox.from_bounds(x - _MARK / 2, y - _MARK / 2, _MARK, _MARK) for x, y in marks]
    taken.append(axes.get_legend().get_window_extent())
    for words, point, colour in names:
        places = []
        for shift, side in _BESIDE:
            text = axes.annotate(words, point, shift, textcoords="offset points", ha=side, va="center")
            text.set(fontsize=7, color=colour)
            box = text.get_window_extent()
            outside = not (axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1)
            places.append((outside + box.count_overlaps(taken), text, box))
            text.set_visible(False)
        _, text, box = min(places, key=lambda place: place[0])
        text.set_visible(True)
        taken.append(box)


def _colour(row: ModelResult) -> Any:
    """Return the colour of a model: the wider its stream, the lighter."""
    from matplotlib import pyplot

    return pyplot.get_cmap("viridis")(min(0.85, 1.6 * row.model.width))


def _family(name: str) -> str:
    """Return the mode, or the tail of a parallel model: its name up to the first comma."""
    return name.split(",")[0]


def _error(row: ModelResult) -> list[list[float]] | None:
    """Return a model's interval against serial as distances below and above, if there is one."""
    found = row.equal_compute.against
    if found is None or found.low is None or found.high is None:
        return None
    return [[(found.percent - found.low) / 100], [(found.high - found.percent) / 100]]


def _curves(study: Study, file: Path) -> None:
    """Plot the held-out loss against training time, with step times measured in turns."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
    names = dict.fromkeys(["serial", *study.fronts.memory])
    for name in list(names)[:_CURVES]:
        row = study.models[name]
        axes.plot(
            [step * row.step_s for step, _ in row.curve],
            [loss for _, loss in row.curve],
            marker="o",
            markersize=3,
            label=name,
        )
    axes.set(xlabel="Training time (s)", ylabel="Held-out loss")
    axes.legend()
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
