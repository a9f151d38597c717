"""The fronts of a study, drawn: loss against memory, loss against time, and the curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobius_pipeline.files import whole_folder

_MARKERS = "osD^vP*X"  # a tail each
_SIZE = (7.5, 5.2)  # inches
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
    tails = sorted({row["model"]["tail"] for row in rows.values()})
    for name, row in rows.items():
        serial = row["model"]["mode"] != "parallel"
        x, y = row[cost], row["equal_compute"]["ratio"]
        marker = "s" if serial else _MARKERS[tails.index(row["model"]["tail"]) % len(_MARKERS)]
        colour = "black" if serial else pyplot.get_cmap("viridis")(min(0.9, 1.6 * row["model"]["width"]))
        axes.errorbar(x, y, yerr=_error(row), marker=marker, color=colour, capsize=3, linestyle="none")
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7)
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
