"""The comparison of the two modes, as plain data; `report` and `summary` show it."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mobius_pipeline.clips.media import load_clip
from mobius_pipeline.clips.write import write_mp4
from mobius_pipeline.config import ClipFormat
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.evaluation.paired import paired_change
from mobius_pipeline.evaluation.quality import load_videos, reference_paths, references, vae_encoder
from mobius_pipeline.evaluation.summary import relative_percent, verdict
from mobius_pipeline.evaluation.timing import paired_step_times
from mobius_pipeline.evaluation.video_metrics import Pixels, video_features
from mobius_pipeline.files import read_json, whole_folder
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.sampling.run import Sample, read_samples
from mobius_pipeline.training.claim import CONFIG, FORKED
from mobius_pipeline.training.meters import StepTimer
from mobius_pipeline.training.run import read_metrics

# What must agree for the comparison to be fair: the name in the report, and the keys in training.json.
_FAIR = {
    "same_base": ["fingerprints.base"],
    "same_data": ["fingerprints.data"],
    "same_draws": ["train.seed", "train.batch_size", "train.objective"],
    "same_steps": ["train.steps", FORKED],
    "same_optimizer": ["train.optimizer", "train.ema_decay", "train.ema_warmup_power"],
    "same_precision": ["train.autocast", "train.optimizer.state_bits"],
    "same_device": ["train.device", "processes"],
}


def compare_modes(
    weights: Mapping[str, Path],
    samples: Mapping[str, Path],
    metrics: Mapping[str, dict[str, Any]],
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    raw_clips: Path,
    base: Path,
    store: LatentsStore,
    clip: ClipFormat,
    config: EvaluateConfig,
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    """Put both modes beside each other and beside the references.

    Args:
        weights: Each mode's finished training.
        samples: Each mode's samples; the folders' parent is what paths in the result are relative to.
        metrics: Each mode's metrics, from `evaluate`.
        manifest: The clips.
        quarantine: The clips that were left out.
        raw_clips: The folder that `manifest.path` is relative to.
        base: The base model.
        store: The latents, for the paired step times.
        clip: How clips are decoded.
        config: Seed and size of the reference set.
        provenance: Where the code and the runs are from; device, versions and time are added.

    Raises:
        MobiusError: If a clip cannot be read.
    """
    configs = {mode: read_json(folder / CONFIG) for mode, folder in weights.items()}
    listings = {mode: read_samples(folder)[0] for mode, folder in samples.items()}
    timers = paired_step_times(weights, store, base, config.paired_steps)
    modes = {mode: _mode(metrics[mode], weights[mode], listings[mode], timers[mode]) for mode in weights}
    comparison = {
        "t2i": {"heldout_loss": metrics["serial"]["heldout_loss_start"]},
        "heldout_change": heldout_changes(
            {mode: read_metrics(folder)["heldout_by_clip"] for mode, folder in weights.items()}
        ),
        "modes": modes,
        "references": _references(listings["serial"], manifest, raw_clips, base, clip, config),
        "relative_percent": relative_percent(modes["serial"], modes["parallel"]),
        "data": _data(manifest, quarantine, configs["serial"]["fingerprints"]["data"]),
        "fairness": fairness(configs["serial"], configs["parallel"]),
        "provenance": {**provenance, **_environment(configs["serial"]["train"]["device"])},
    }
    return {**comparison, "verdict": verdict(comparison)}


def heldout_changes(losses: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """The change of the held-out loss, by `paired_change`: each mode from its start, parallel from serial.

    Args:
        losses: For each mode the loss by clip at the `start` and the `end` of its training.
    """
    return {
        **{mode: paired_change(loss["start"], loss["end"]) for mode, loss in losses.items()},
        "parallel_vs_serial": paired_change(losses["serial"]["end"], losses["parallel"]["end"]),
    }


def write_real_videos(
    samples: Path, raw_clips: Path, clip: ClipFormat, magnify: int, target: Path
) -> tuple[list[dict[str, str | None]], Path]:
    """Write the real clip of each sample's prompt as mp4, magnified as the samples are.

    Returns:
        A row a sample with `prompt` and `mp4` (None where the prompt has no clip), and the folder.
    """
    rows: list[dict[str, str | None]] = []
    with whole_folder(target) as partial:
        for sample in read_samples(samples)[0]:
            if sample.clip is not None:
                frames = load_clip(raw_clips / sample.clip, clip).repeat(magnify, 1).repeat(magnify, 2)
                write_mp4(partial / sample.mp4, frames, clip.rate)
            rows.append(
                {"prompt": sample.prompt, "mp4": f"real/{sample.mp4}" if sample.clip is not None else None}
            )
    return rows, target


def fairness(serial: Mapping[str, Any], parallel: Mapping[str, Any]) -> dict[str, bool]:
    """Which of the things that must agree do agree between the modes' `training.json`."""
    return {name: all(_at(serial, key) == _at(parallel, key) for key in keys) for name, keys in _FAIR.items()}


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _mode(
    metrics: dict[str, Any], weights: Path, listing: Sequence[Sample], timer: StepTimer
) -> dict[str, Any]:
    """A mode's figures; its step time is the paired one, its training's own stays beside it."""
    samples = [
        {**asdict(sample), "mp4": f"{weights.name}/{sample.mp4}", "gif": f"{weights.name}/{sample.gif}"}
        for sample in listing
    ]
    return {
        **metrics,
        "step_s": timer.median_s,
        "step_s_iqr": list(timer.iqr_s),
        "training_step_s": metrics["step_s"],
        "history": read_metrics(weights)["history"],
        "samples": samples,
    }


def _references(
    listing: Sequence[Sample],
    manifest: pd.DataFrame,
    raw_clips: Path,
    base: Path,
    clip: ClipFormat,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Scores of real, still and unrelated clips for the same prompts; nothing where prompts have no clip."""
    paths = [sample.clip for sample in listing if sample.clip is not None]
    if not paths:
        return {}
    prompts = [sample.prompt for sample in listing if sample.clip is not None]
    encode = vae_encoder(base)
    known = reference_paths(manifest, clip.frames, config.reference_clips)
    features = video_features(load_videos(raw_clips, known, clip, "compare: real clips"), encode)
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
        "quarantine_reasons": dict(Counter(quarantine["reason"])),
        "digest": digest,
    }


def _environment(device: str) -> dict[str, str]:
    name = (
        torch.cuda.get_device_name(device)
        if device.startswith("cuda")
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return {
        "device": name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
