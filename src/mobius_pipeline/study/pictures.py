"""The fronts of a study, drawn: loss against memory, loss against time, and the curves."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from mobius_pipeline.files import whole_folder

_MARKERS = "soD^vP*X"  # serial, and a tail each
_SIZE = (7.5, 5.2)  # inches
_NEAR = (0.2, 0.02)  # a point so near above another one has its words above itself, the other one below
_CURVES = 6  # as many as can be told apart


def draw(study: Mapping[str, Any], target: Path) -> Path:
    """Write `memory.png`, `time.png` and `curves.png` of a study's report into a folder."""
    import matplotlib

    matplotlib.use("Agg")
    with whole_folder(target) as partial:
        _scatter(
            study, "peak_ratio", "Peak memory, of serial's", study["fronts"]["memory"], partial / "memory.png"
        )
        _scatter(study, "step_ratio", "Step time, of serial's", study["fronts"]["time"], partial / "time.png")
        _curves(study, partial / "curves.png")
    return target


def _scatter(study: Mapping[str, Any], cost: str, title: str, front: Sequence[str], file: Path) -> None:
    """Every model's loss at equal compute against a cost, both as shares of serial's."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
    rows = study["models"]
    families = dict.fromkeys(_family(name) for name in rows)
    markers = dict(zip(families, cycle(_MARKERS)))
    points = {name: (float(row[cost]), float(row["equal_compute"]["ratio"])) for name, row in rows.items()}
    for name, row in rows.items():
        family, (x, y) = _family(name), points[name]
        colour = pyplot.get_cmap("viridis")(min(0.9, 1.6 * row["model"]["width"]))
        axes.errorbar(x, y, yerr=_error(row), marker=markers[family], color=colour, capsize=2, linewidth=0.7)
        words = name.removeprefix(family).removeprefix(", ")
        covered = any(
            abs(right - x) < _NEAR[0] and y < above < y + _NEAR[1] for right, above in points.values()
        )
        shift = (5, -9) if covered else (5, 3)
        axes.annotate(words, (x, y), xytext=shift, textcoords="offset points", fontsize=7)
    for family, marker in markers.items():
        axes.plot([], [], marker=marker, color="grey", linestyle="none", label=family)
    axes.legend()
    axes.plot(
        [rows[name][cost] for name in front],
        [rows[name]["equal_compute"]["ratio"] for name in front],
        color="grey",
        linewidth=0.8,
        zorder=0,
    )
    axes.axhline(1, color="lightgrey", linewidth=0.8, zorder=0)
    axes.set(xlabel=title, ylabel="Held-out loss at equal compute, of serial's")
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def _family(name: str) -> str:
    """The mode, or the tail of a parallel model: the words of its name before the first comma."""
    return name.split(",")[0]


def _error(row: Mapping[str, Any]) -> list[list[float]] | None:
    """The interval of a model's loss against serial's, where there is one, as distances below and above."""
    found = row["equal_compute"]["against"]
    if found is None or found["low"] is None:
        return None
    return [[(found["percent"] - found["low"]) / 100], [(found["high"] - found["percent"]) / 100]]


def _curves(study: Mapping[str, Any], file: Path) -> None:
    """The held-out loss against training time, by the step time that was measured taking turns."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
    names = dict.fromkeys(["serial", *study["fronts"]["memory"]])
    for name in list(names)[:_CURVES]:
        row = study["models"][name]
        axes.plot(
            [step * row["step_s"] for step, _ in row["curve"]],
            [loss for _, loss in row["curve"]],
            marker="o",
            markersize=3,
            label=name,
        )
    axes.set(xlabel="Training time (s)", ylabel="Held-out loss")
    axes.legend()
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
