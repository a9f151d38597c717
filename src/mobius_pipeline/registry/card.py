"""Model card of a registered model (Mitchell et al. 2019, arXiv 1810.03993)."""

import re
from pathlib import Path

from mobius_pipeline.comparison import summary
from mobius_pipeline.comparison.model import Column, Comparison
from mobius_pipeline.comparison.notes import plain
from mobius_pipeline.runtime.units import size
from mobius_pipeline.training.result import TrainingResult

UNKNOWN = "not stated by the base's README.md"


def licence_of(base: Path, stated: str | None) -> str:
    """Return the licence of a base: `stated`, or that in its README's metadata (Hugging Face Hub format)."""
    if stated is not None:
        return stated
    readme = base / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    metadata = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*(\S.*)$", metadata[1], re.MULTILINE) if metadata else None
    return found[1].strip() if found else UNKNOWN


def model_card(comparison: Comparison, label: str, trained: TrainingResult, licence: str) -> str:
    """Return the description of a trained model in Markdown: training, data, cost, losses and limits.

    Args:
        comparison: The comparison that has the model as a column.
        label: The label of that column.
        trained: The training.
        licence: The licence of the base.
    """
    column, data = comparison.columns[label], comparison.data
    train, prints = trained.description.train, trained.description.fingerprints
    paragraphs = [
        f"# {plain(label)}: a text-to-video model",
        f"{_mode(column)} It takes prompts and returns H.264 videos.",
        "## Training",
        f"- Data: {data.train} captioned clips, {data.heldout} held out, {data.quarantined} left out by the "
        f"validation. Digest of clips, captions and splits: `{prints.data[:20]}`.",
        f"- Base: fingerprint `{prints.base[:20]}`, licence: {plain(licence)}.",
        f"- {column.steps} optimiser steps of {train['batch_size']} clips, seed "
        f"{', '.join(map(str, column.seeds))}, {summary.count(column.trainable_parameters)} trainable of "
        f"{summary.count(column.total_parameters)} parameters.",
        f"- Cost: peak memory {size(column.peak_memory_bytes)}, median step "
        f"{summary.duration(column.step_s)}, {summary.duration(column.training_s)} of training on "
        f"{plain(comparison.provenance.device)}.",
        "## Evaluation",
        f"- Held-out loss {column.heldout_loss:.4f}, {column.heldout_loss_start:.4f} before the first step.",
        *_others(comparison, label),
        f"- Samples that show their whole prompt: {summary.share(column.quality.prompt_match)}.",
        f"- Verdict of the comparison: {plain(comparison.verdict)}",
        "## Limits",
        "The held-out loss is the mean squared error of the denoiser's prediction on latents of clips of the "
        "same source. The model was not tested on other kinds of prompts, on harmful content or on faces. "
        "The clips' licences are not recorded.",
        "## Origin",
        f"Code {comparison.provenance.git or 'without git'}, training {', '.join(column.run_ids)} in MLflow, "
        f"compared {comparison.provenance.created}.",
    ]
    return "\n\n".join(_joined(paragraphs)) + "\n"


def _mode(column: Column) -> str:
    if column.mode == "serial":
        return "A 3D-UNet: temporal layers, fine-tuned in one chain with the frozen spatial ones (serial)."
    return (
        "A frozen text-to-image UNet with a trained stream of temporal blocks beside it (Mobius, "
        f"arXiv 2407.06617; {column.mode})."
    )


def _others(comparison: Comparison, label: str) -> list[str]:
    return [
        f"- For comparison, {plain(name)}: held-out loss {other.heldout_loss:.4f}, peak memory "
        f"{size(other.peak_memory_bytes)}, median step {summary.duration(other.step_s)}."
        for name, other in comparison.columns.items()
        if name != label
    ]


def _joined(paragraphs: list[str]) -> list[str]:
    """Join the items of a list into one paragraph."""
    joined: list[str] = []
    for text in paragraphs:
        if text.startswith("- ") and joined[-1].startswith("- "):
            joined[-1] += f"\n{text}"
        else:
            joined.append(text)
    return joined
