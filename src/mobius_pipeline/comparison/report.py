"""The comparison as one HTML file that needs nothing beside it: no network, no folder, no server."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mobius_pipeline.comparison import charts, summary
from mobius_pipeline.comparison.model import Column, Comparison, Memory, Point, Quality
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.html_pages import policy

Columns = Mapping[str, Column]

MEDIA_BUDGET = 4 * 2**20  # bytes of base64 video, so that the whole file stays below 5 MB
LONG_TRAINING_S = 300.0  # seconds; above, time axes are in minutes
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
class Sample:
    """A prompt's videos side by side; each is a data URI, and the real one may be missing."""

    prompt: str
    seed: int
    videos: dict[str, str | None]


def render_report(comparison: Comparison, media_root: Path) -> str:
    """Return the report of a comparison (see `compare`) whose videos lie below `media_root`.

    Samples beyond the first `MEDIA_BUDGET` bytes of video are left out, and the report says so.

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
    pages.filters["begun"] = summary.begun
    pages.globals["zip"] = zip
    script = pages.get_template("report.js").render()
    shown = content(comparison, media_root)
    return pages.get_template("report.html").render(
        **shown, script=script, policy=policy(scripts=[script], media=True)
    )


def content(comparison: Comparison, media_root: Path) -> dict[str, Any]:
    """Return what the template shows, as text, geometry and data URIs."""
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
        "buckets": buckets(comparison.columns),
        "memory": memory_bars(comparison.columns),
        "times": time_bars(comparison.columns),
        "scores": scores(comparison),
        "score_titles": SCORES,
        "unfair": comparison.fairness.differing,
        "columns": list(comparison.columns),
    }


def tiles(comparison: Comparison) -> list[summary.Row]:
    """Return the figures to see first, where one column stands against one: memory, time and loss."""
    if len(comparison.columns) > 2:
        return []  # the table right below shows more at a glance
    return summary.rows(comparison)[:4]


def spent(comparison: Comparison) -> list[dict[str, Any]]:
    """Return where the columns were compared: what each had spent there, and its loss."""
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


def gallery(comparison: Comparison, media_root: Path) -> list[Sample]:
    """Return the samples of the first column whose videos fit into `MEDIA_BUDGET`, in their order.

    Beside each stand the other columns' samples with the same prompt and seed, where there are any.

    Raises:
        MobiusError: If a video is missing.
    """
    samples = comparison.columns[comparison.first].samples
    files = {
        label: {(sample.prompt, sample.seed): sample.mp4 for sample in column.samples}
        for label, column in comparison.columns.items()
    }
    shown: list[Sample] = []
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
        shown.append(Sample(prompt, seed, videos))
    return shown


def data_uri(video: Path) -> str:
    """Return an mp4 file as a data URI.

    Raises:
        MobiusError: If there is no such file.
    """
    if not video.is_file():
        raise MobiusError(
            f"The comparison names the video {video}, which is missing: sample both modes again."
        )
    return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"


def loss_charts(comparison: Comparison) -> list[charts.Chart]:
    """Return held-out and smoothed training loss, each against time and against steps."""
    histories = {label: column.history for label, column in comparison.columns.items()}
    begun = histories[comparison.first].heldout
    start = begun[0][1] if begun and begun[0][0] == 0 else None  # of the clips that the curves are of
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
    """Return how many held-out clips the curves are over, if not all."""
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
    """Return (x, value) points, x being the history's column `axis` over `scale`."""
    return {
        label: [(point[axis] / scale, point[1]) for point in history] for label, history in histories.items()
    }


def buckets(columns: Columns) -> list[summary.Row]:
    """Return the held-out loss by bucket of timesteps, a row a bucket."""
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
        if all(name in losses for losses in others)  # ranges of another schedule are other ranges
    ]


def memory_bars(columns: Columns) -> list[dict[str, Any]]:
    """Return a stacked bar a column: each part's bytes, and its width in per cent of the longest bar."""
    longest = max(column.peak_memory_bytes for column in columns.values())

    def parts(memory: Memory) -> list[dict[str, Any]]:
        return [
            {"name": part, "text": summary.size(amount), "width": 100 * amount / longest}
            for part, amount in memory
        ]

    return [
        {
            "label": label,
            "total": summary.size(column.peak_memory_bytes),
            "parts": parts(column.memory_breakdown_bytes),
        }
        for label, column in columns.items()
    ]


def time_bars(columns: Columns) -> list[dict[str, Any]]:
    """Return the bars of step and training time, and the step's middle half; widths in per cent."""
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
    """Return the quality table, a row a source: real clips, the columns, and what knows no prompt."""
    references = comparison.references
    columns = [
        {"name": summary.begun(label), "column": index, "values": score_texts(column.quality)}
        for index, (label, column) in enumerate(comparison.columns.items())
    ]
    return [
        *_reference("Real clips", references.real),
        *columns,
        *_reference("A still frame", references.still),
        *_reference("A random clip", references.random),
    ]


def _reference(name: str, quality: Quality | None) -> list[dict[str, Any]]:
    """A reference's row; none where there is no such reference."""
    return [] if quality is None else [{"name": name, "column": None, "values": score_texts(quality)}]


def score_texts(quality: Quality) -> list[str]:
    """The scores as text, in the order of `SCORES`."""
    shares = (quality.prompt_match, quality.colour, quality.shape, quality.motion)
    measures = ((quality.frechet, 2), (quality.flicker, 4), (quality.dynamic_degree, 4))
    return [
        *map(summary.share, shares),
        *(summary.NONE if value is None else f"{value:.{digits}f}" for value, digits in measures),
    ]
