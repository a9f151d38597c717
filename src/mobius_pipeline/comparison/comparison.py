"""The comparison of trainings, as plain data; `report` and `summary` show it."""

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mobius_pipeline.comparison.curves import thinned
from mobius_pipeline.comparison.points import points
from mobius_pipeline.comparison.quarantine_summary import left_out
from mobius_pipeline.comparison.records import Record
from mobius_pipeline.comparison.summary import relative_percent
from mobius_pipeline.comparison.timing import time_in_turns
from mobius_pipeline.comparison.uncertainty import paired_change, reach
from mobius_pipeline.comparison.verdict import verdict
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.evaluation.quality import load_videos, reference_features, references, vae_encoder
from mobius_pipeline.evaluation.video_metrics import Pixels
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.runtime.files import whole_folder
from mobius_pipeline.sampling.sample import read_samples
from mobius_pipeline.training.resume_identity import FORKED

Columns = Mapping[str, Sequence[Record]]

# What must agree for the comparison to be fair: the name in the report, and the keys in training.json.
_FAIR = {
    "same_base": ["fingerprints.base"],
    "same_data": ["fingerprints.data"],
    "same_draws": ["train.batch_size", "train.objective"],
    "same_steps": ["train.steps", FORKED],
    "same_optimizer": ["train.optimizer", "train.ema_decay", "train.ema_warmup_power"],
    "same_precision": ["train.autocast", "train.optimizer.state_bits"],
    "same_device": ["devices", "processes"],
}
_SPREAD = ("heldout_loss", "training_s")  # what another seed, or another hour, changes
_APART = (
    "run_id",
    "history",
    "heldout_by_clip",
    "heldout_watched",
    "heldout_at_steps",
)  # of a record's metrics: not to be averaged


def compare_trainings(
    columns: Columns,
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    raw_clips: Path,
    base: Path,
    store: LatentsStore,
    clip: ClipFormat,
    evaluate: EvaluateConfig,
    paired_steps: int | None,
    media_root: Path,
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    """Put columns of trainings beside each other, all against the first, and beside the references.

    Args:
        columns: Two or more, from `records.columns`.
        manifest: The clips.
        quarantine: The clips that were left out.
        raw_clips: The folder that `manifest.path` is relative to.
        base: The base model.
        store: The latents, for the paired step times and as the references of the Fréchet distance.
        clip: How clips are decoded.
        evaluate: Seed and size of the reference set.
        paired_steps: Steps of each column that are timed, the columns taking turns; None: none.
        media_root: What paths of samples in the result are relative to.
        provenance: Where the code and the runs are from; device, versions and time are added.

    Raises:
        MobiusError: If a clip cannot be read.
    """
    configs = {label: records[0].config for label, records in columns.items()}
    figures = {label: _figures(records, media_root) for label, records in columns.items()}
    own_s = {label: figures[label]["training_step_s"] for label in figures}
    timers, timing_note = time_in_turns(configs, own_s, store, base, paired_steps)
    for label, timer in timers.items():
        figures[label] |= {"step_s": timer.median_s, "step_s_iqr": list(timer.iqr_s)}
    first, *others = figures
    reached = points(columns, {label: figures[label]["step_s"] for label in figures})
    comparison = {
        "start": {"heldout_loss": figures[first]["heldout_loss_start"]},
        "heldout_change": {label: heldout_change(records) for label, records in columns.items()},
        "points": reached,
        "columns": figures,
        "paired_step_times": bool(timers),
        "timing_note": timing_note,
        "references": _references(columns[first][0], manifest, raw_clips, base, store, clip, evaluate),
        "relative_percent": {
            label: relative_percent(figures[first], figures[label], reached, label) for label in others
        },
        "data": _data(manifest, quarantine, configs[first]["fingerprints"]["data"]),
        "fairness": fairness(columns),
        "provenance": {**provenance, **_environment(configs[first]["devices"][-1])},
    }
    return {**comparison, "verdict": verdict(comparison)}


def costs(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a column of a comparison with what it cost and reached; what `dvc plots` draws as bars."""
    return [
        {
            "training": label,
            "peak_memory_mib": column["peak_memory_bytes"] / 2**20,
            "step_ms": column["step_s"] * 1e3,
            "training_s": column["training_s"],
            "heldout_loss": column["heldout_loss"],
        }
        for label, column in comparison["columns"].items()
    ]


def heldout_change(records: Sequence[Record]) -> dict[str, Any]:
    """The change of the held-out loss from the start: over seeds where there are several, or over clips."""
    if len(records) > 1:
        starts, ends = (
            {str(index): record.metrics[key] for index, record in enumerate(records)}
            for key in ("heldout_loss_start", "heldout_loss")
        )
        return {**paired_change(starts, ends), "over": "seeds"}
    by_clip = records[0].metrics["heldout_by_clip"]
    return {**paired_change(by_clip["start"], by_clip["end"]), "over": "clips"}


def mean_of(values: Sequence[Any]) -> Any:
    """The mean of figures of several runs, entry by entry of dictionaries and lists.

    What is equal in all stays as it is; words, and figures that one of them lacks, become None.
    """
    first = values[0]
    if all(value == first for value in values):
        return first
    if isinstance(first, Mapping):
        shared = [key for key in first if all(key in value for value in values)]
        return {key: mean_of([value[key] for value in values]) for key in shared}
    if isinstance(first, list | tuple):
        return [mean_of(list(entries)) for entries in zip(*values, strict=False)]
    return float(np.mean(values)) if all(isinstance(value, int | float) for value in values) else None


def fairness(columns: Columns) -> dict[str, bool]:
    """Which of the things that must agree do agree between all columns' `training.json`."""
    first, *others = (records[0].config for records in columns.values())
    agree = {
        name: all(_at(first, key) == _at(other, key) for other in others for key in keys)
        for name, keys in _FAIR.items()
    }
    seeds = [sorted(record.seed for record in records) for records in columns.values()]
    return {**agree, "same_draws": agree["same_draws"] and all(one == seeds[0] for one in seeds)}


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _figures(records: Sequence[Record], media_root: Path) -> dict[str, Any]:
    """A column's figures, the means of its runs; its samples are those of the first."""
    metrics = [record.metrics for record in records]
    measured = [{key: one[key] for key in one if key not in _APART} for one in metrics]
    folder = os.path.relpath(records[0].samples, media_root)
    samples = [
        {**asdict(sample), "mp4": f"{folder}/{sample.mp4}", "gif": f"{folder}/{sample.gif}"}
        for sample in read_samples(records[0].samples)[0]
    ]
    means = mean_of(measured)
    return {
        **means,
        "mode": records[0].mode,
        "schedule": records[0].config["train"]["optimizer"].get("schedule", "constant"),
        "train_head": bool(records[0].config["model"].get("train_head", False)),
        "seeds": [record.seed for record in records],
        "run_ids": [one["run_id"] for one in metrics],
        "training_step_s": means["step_s"],
        "beside": {key: reach([float(one[key]) for one in metrics]) for key in _SPREAD},
        "watched": len(metrics[0]["heldout_watched"][0][1]) if metrics[0].get("heldout_watched") else None,
        "history": thinned(mean_of([one["history"] for one in metrics])),
        "samples": samples,
    }


def write_real_videos(
    samples: Path, manifest: pd.DataFrame, raw_clips: Path, clip: ClipFormat, magnify: int, target: Path
) -> tuple[list[dict[str, str | None]], Path]:
    """Write the real clip of each sample's prompt as mp4, magnified as the samples are.

    Returns:
        A row a sample with `prompt` and `mp4` (None where the prompt has no clip here), and the folder.
    """
    known = set(manifest["path"])
    rows: list[dict[str, str | None]] = []
    with whole_folder(target) as partial:
        for sample in read_samples(samples)[0]:
            mp4 = None
            if sample.clip is not None and sample.clip in known:
                frames = load_clip(raw_clips / sample.clip, clip).repeat(magnify, 1).repeat(magnify, 2)
                write_mp4(partial / sample.mp4, frames, clip.rate)
                mp4 = f"real/{sample.mp4}"
            rows.append({"prompt": sample.prompt, "mp4": mp4})
    return rows, target


def _references(
    record: Record,
    manifest: pd.DataFrame,
    raw_clips: Path,
    base: Path,
    store: LatentsStore,
    clip: ClipFormat,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Scores of real, still and unrelated clips for the same prompts; nothing where prompts have no clip."""
    known = set(manifest["path"])
    listed = [(sample.prompt, sample.clip) for sample in read_samples(record.samples)[0]]
    with_clip = [(prompt, path) for prompt, path in listed if path is not None and path in known]
    if not with_clip:
        return {}
    prompts, paths = [prompt for prompt, _ in with_clip], [path for _, path in with_clip]
    encode = vae_encoder(base)
    features = reference_features(store, config.reference_clips)
    real = load_videos(raw_clips, paths, clip, "compare: prompts' clips")
    return references(
        real,
        _unrelated(manifest, paths, raw_clips, clip, config.seed),
        prompts,
        features,
        encode,
        config.seed,
    )


def _unrelated(
    manifest: pd.DataFrame, paths: Sequence[str], raw_clips: Path, clip: ClipFormat, seed: int
) -> Pixels:
    """As many clips as `paths`, drawn from all."""
    drawn = np.random.default_rng(seed).choice(
        manifest["path"].to_numpy(), len(paths), replace=len(paths) > len(manifest)
    )
    return load_videos(raw_clips, list(drawn), clip, "compare: random clips")


def _data(manifest: pd.DataFrame, quarantine: pd.DataFrame, digest: str) -> dict[str, Any]:
    splits = Counter(manifest["split"])
    return {
        "clips": len(manifest),
        "train": splits["train"],
        "heldout": splits["heldout"],
        "quarantined": len(quarantine),
        "left_out": left_out(quarantine, manifest),
        "digest": digest,
    }


def _environment(device: str) -> dict[str, str]:
    name = (
        torch.cuda.get_device_name(device)
        if device.startswith("cuda") and torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return {
        "device": name,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "diffusers", "kedro", "mlflow", "dvc")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
