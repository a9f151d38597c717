"""Render the comparison as one self-contained HTML file, which needs no network, server or other files."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mobius_pipeline.comparison import charts, summary
from mobius_pipeline.comparison.model import Column, Comparison, Point
from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.html_pages import policy
from mobius_pipeline.runtime.units import size
from mobius_pipeline.training.metrics import Memory

Columns = Mapping[str, Column]

MEDIA_BUDGET = 4 * 2**20  # bytes of base64 video, so that the whole file stays below 5 MB
LONG_TRAINING_S = 300.0  # seconds; the time axes of longer trainings are in minutes
SCORES = (
    "All three right",
    "Colour",
    "Shape",
    "Motion",
    "Fréchet distance",
    "Flicker",
    "Dynamic degree",
)


@dataclass(frozen=True)
class GalleryRow:
    """The videos of one prompt and seed as data URIs, by column; None if a video is missing."""

    prompt: str
    seed: int
    videos: dict[str, str | None]


def render_report(comparison: Comparison, media_root: Path) -> str:
    """Render a `Comparison` as one HTML page; its video paths are relative to `media_root`.

    Samples beyond `MEDIA_BUDGET` are left out, and the page says how many.

    Raises:
        MobiusError: If a video that the comparison names is missing.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("mobius_pipeline.comparison"),
        autoescape=True,  # prompts are the user's own text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["capitalised"] = summary.capitalised
    pages.globals["zip"] = zip
    script = pages.get_template("report.js").render()
    shown = content(comparison, media_root)
    return pages.get_template("report.html").render(
        **shown, script=script, policy=policy(scripts=[script], media=True)
    )


def content(comparison: Comparison, media_root: Path) -> dict[str, Any]:
    """Return the template's variables: text, chart geometry and data URIs."""
    samples = gallery(comparison, media_root)
    return {
        "comparison": comparison,
        "created": datetime.fromisoformat(comparison.provenance.created).strftime("%d %B %Y, %H:%M %Z"),
        "rows": summary.rows(comparison),
        "tiles": tiles(comparison),
        "spent": spent(comparison),
        "samples": samples,
        "left_out": len(comparison.real) - len(samples),
        "charts": loss_charts(comparison),
        "watched": watched(comparison),
        "timestep_rows": timestep_rows(comparison.columns),
        "memory": memory_bars(comparison.columns),
        "times": time_bars(comparison.columns),
        "scores": scores(comparison),
        "score_titles": SCORES,
        "unfair": comparison.fairness.differing,
        "columns": list(comparison.columns),
    }


def tiles(comparison: Comparison) -> list[summary.Row]:
    """Return the rows shown as tiles (memory, time, losses) if there are two columns, otherwise none."""
    if len(comparison.columns) > 2:
        return []  # with more columns, the table is the better overview
    return summary.rows(comparison)[:4]


def spent(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the points of comparison: what each column had spent there, and its loss."""
    points = comparison.points

    def row(name: str, point: Point) -> dict[str, Any]:
        costs = [
            f"{point.steps[label]} steps, {point.flops[label] / 1e12:.2f} TFLOP, "
            f"{summary.duration(point.seconds[label])}"
            for label in comparison.columns
        ]
        losses = [f"{point.losses[label]:.4f}" for label in comparison.columns]
        return {"name": name, "values": list(zip(costs, losses, strict=True))}

    return [
        row("Equal steps", points.steps),
        row("Equal compute", points.compute),
        row("Equal training time", points.time),
    ]


def gallery(comparison: Comparison, media_root: Path) -> list[GalleryRow]:
    """Return the first column's samples, as many as fit into `MEDIA_BUDGET`.

    Each row also has the real clip and the other columns' samples with the same prompt and seed.

    Raises:
        MobiusError: If a video is missing.
    """
    samples = comparison.columns[comparison.first].samples
    files = {
        label: {(sample.prompt, sample.seed): sample.mp4 for sample in column.samples}
        for label, column in comparison.columns.items()
    }
    shown: list[GalleryRow] = []
    spent = 0
    for real, sample in zip(comparison.real, samples, strict=True):
        prompt, seed = sample.prompt, sample.seed
        chosen = {"real": real.mp4, **{label: known.get((prompt, seed)) for label, known in files.items()}}
        videos = {
            name: None if file is None else data_uri(media_root / file) for name, file in chosen.items()
        }
        spent += sum(len(video) for video in videos.values() if video)
        if spent > MEDIA_BUDGET:
            break
        shown.append(GalleryRow(prompt, seed, videos))
    return shown


def data_uri(video: Path) -> str:
    """Return an mp4 file as a data URI.

    Raises:
        MobiusError: If there is no such file.
    """
    if not video.is_file():
        raise MobiusError(f"The video {video} of the comparison is missing: sample both modes again.")
    return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"


def loss_charts(comparison: Comparison) -> list[charts.Chart]:
    """Return the charts of held-out loss and smoothed training loss, each over time and over steps."""
    histories = {label: column.history for label, column in comparison.columns.items()}
    curve = histories[comparison.first].heldout
    start = curve[0][1] if curve and curve[0][0] == 0 else None  # over the clips that the curve covers
    longest = max((point[2] for history in histories.values() for point in history.loss), default=0.0)
    unit, scale = ("minutes", 60.0) if longest > LONG_TRAINING_S else ("seconds", 1.0)
    heldout = {label: history.heldout for label, history in histories.items()}
    training = {label: _smooth(history.loss) for label, history in histories.items()}
    time_title = f"Training time ({unit})"
    return [
        charts.line_chart("Held-out loss", time_title, _against(heldout, 2, scale), start=start, marked=True),
        charts.line_chart("Held-out loss", "Step", _against(heldout, 0), start=start, marked=True),
        charts.line_chart("Training loss, smoothed", time_title, _against(training, 2, scale)),
        charts.line_chart("Training loss, smoothed", "Step", _against(training, 0)),
    ]


def watched(comparison: Comparison) -> int | None:
    """Return the number of held-out clips that the curves cover; None if they cover all."""
    counts = [column.watched for column in comparison.columns.values() if column.watched]
    fewest = min(counts, default=None)
    return fewest if fewest is not None and fewest < comparison.data.heldout else None


def _smooth(history: Sequence[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Return (step, value, seconds) points with the values smoothed."""
    values = charts.smoothed([value for _, value, _ in history])
    return [(step, value, seconds) for (step, _, seconds), value in zip(history, values, strict=True)]


def _against(
    histories: Mapping[str, Sequence[Sequence[float]]], axis: int, scale: float = 1.0
) -> dict[str, list[charts.Point]]:
    """Return (x, value) points; x is the history's column `axis`, divided by `scale`."""
    return {
        label: [(point[axis] / scale, point[1]) for point in history] for label, history in histories.items()
    }


def timestep_rows(columns: Columns) -> list[summary.Row]:
    """Return the held-out loss by timestep bin, one row per bin."""
    first, *others = (column.heldout_loss_by_timestep for column in columns.values())
    return [
        summary.Row(
            name,
            "",
            tuple(f"{losses[name]:.4f}" for losses in (first, *others)),
            tuple(
                summary.percent(100 * (losses[name] / first[name] - 1) if first[name] else None)
                for losses in others
            ),
        )
        for name in first
        if all(name in losses for losses in others)  # another schedule may have other bins
    ]


def memory_bars(columns: Columns) -> list[dict[str, Any]]:
    """Return a stacked bar per column: bytes and width of each part, in per cent of the longest bar."""
    longest = max(column.peak_memory_bytes for column in columns.values())

    def parts(memory: Memory) -> list[dict[str, Any]]:
        return [
            {"name": part, "text": size(amount), "width": 100 * amount / longest} for part, amount in memory
        ]

    return [
        {
            "label": label,
            "total": size(column.peak_memory_bytes),
            "parts": parts(column.memory_breakdown_bytes),
        }
        for label, column in columns.items()
    ]


def time_bars(columns: Columns) -> list[dict[str, Any]]:
    """Return the bars of step time, with its interquartile range, and training time; widths in per cent."""
    slowest = max(max(column.step_s, column.step_s_iqr[1]) for column in columns.values())
    longest = max(column.training_s for column in columns.values())
    return [
        {
            "label": label,
            "step": summary.duration(column.step_s),
            "step_width": 100 * column.step_s / slowest,
            "half": [100 * quartile / slowest for quartile in column.step_s_iqr],
            "half_text": " to ".join(summary.duration(quartile) for quartile in column.step_s_iqr),
            "training": summary.duration(column.training_s),
            "training_width": 100 * column.training_s / longest,
        }
        for label, column in columns.items()
    ]


def scores(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the quality table: one row per set of videos.

    The sets are real clips, the columns, and the references without a prompt (still frames, random clips).
    """
    references = comparison.references
    columns = [
        {"name": summary.capitalised(label), "column": index, "values": score_texts(column.quality)}
        for index, (label, column) in enumerate(comparison.columns.items())
    ]
    return [
        *_reference("Real clips", references.real),
        *columns,
        *_reference("A still frame", references.still),
        *_reference("A random clip", references.random),
    ]


def _reference(name: str, quality: Quality | None) -> list[dict[str, Any]]:
    """Return the row of a reference, or none if it was not scored."""
    return [] if quality is None else [{"name": name, "column": None, "values": score_texts(quality)}]


def score_texts(quality: Quality) -> list[str]:
    """Return the scores as text, in the order of `SCORES`."""
    shares = (quality.prompt_match, quality.colour, quality.shape, quality.motion)
    measures = ((quality.frechet, 2), (quality.flicker, 4), (quality.dynamic_degree, 4))
    return [
        *map(summary.share, shares),
        *(summary.NONE if value is None else f"{value:.{digits}f}" for value, digits in measures),
    ]
