"""Describe trainings and comparisons in Markdown, for MLflow's run pages and for pull requests.

The first line is a summary, which MLflow's table of runs shows; the figures follow. Markdown may contain
HTML, so settings and labels are escaped.
"""

import re
from html import escape

from mobius_pipeline.comparison import summary
from mobius_pipeline.comparison.model import Comparison
from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.runtime.units import size
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.metrics import Metrics


def training_note(description: Description, metrics: Metrics, quality: Quality | None = None) -> str:
    """Describe a finished training; `quality` has the scores of its samples, None before the evaluation."""
    train, start, end = description.train, metrics.heldout_loss_start, metrics.heldout_loss
    lines = [
        f"{plain(description.mode.capitalize())}: peak memory {size(metrics.peak_memory_bytes)}, "
        f"median step {summary.duration(metrics.step_s)}, held-out loss {end:.4f} "
        f"(untrained {start:.4f}, {summary.percent(100 * (end / start - 1))}). "
        f"{metrics.steps} steps of {train['batch_size']} clips, seed {train['seed']}, "
        f"{plain(' then '.join(description.devices))}, "
        f"{summary.count(metrics.trainable_parameters)} trainable parameters, "
        f"{summary.duration(metrics.training_s)} of training."
    ]
    if quality is not None:
        names = {"prompt_match": "all of it", "colour": "colour", "shape": "shape", "motion": "motion"}
        scores = [f"{word} {summary.share(getattr(quality, name))}" for name, word in names.items()]
        lines.append(f"Samples that show their prompt: {', '.join(scores)}. Artifacts: `samples/`.")
    return "\n\n".join(lines)


def comparison_note(comparison: Comparison) -> str:
    """Describe a comparison on its run's page: `comparison_markdown`, then where to find the report."""
    report = "The report with the sampled videos is in the artifacts: `comparison.html`."
    return f"{comparison_markdown(comparison)}\n\n{report}"


def comparison_markdown(comparison: Comparison) -> str:
    """Describe a comparison: the changes of each column in one line, the table and the verdict."""
    first, *others = map(plain, comparison.columns)
    rows = summary.rows(comparison)
    changes = [
        f"{summary.capitalised(label)} against {first}: "
        f"peak memory {summary.percent(changed.peak_memory_bytes)}, "
        f"median step {summary.percent(changed.step_s)}, "
        f"loss at equal steps {summary.percent(changed.loss_at_steps)}, "
        f"at equal compute {summary.percent(changed.loss_at_compute)}"
        for label, changed in zip(others, comparison.relative_percent.values(), strict=True)
    ]
    titles = ["", "base, untrained", first, *others, *(f"{label} vs {first}" for label in others)]
    lines = [
        titles,
        ["---", *["---:"] * (len(titles) - 1)],
        *([row.name, row.start, *row.values, *row.changes] for row in rows),
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"{'. '.join(changes)}.", table, plain(comparison.verdict)])


def plain(text: str) -> str:
    """Escape a text for Markdown, so that it cannot make HTML, links, images, table cells or mentions."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", escape(text, quote=False)).replace("@", "&#64;")
