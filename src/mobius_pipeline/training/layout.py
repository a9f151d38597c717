"""Files of a training.

The resume state, `data/.work/<fingerprint>/<mode>/`:

    training.json               model, settings and fingerprints, which identify the training
    run.json                    the MLflow run that records it
    job.json                    the training as its processes read it, if there are several
    step-00000100/              a checkpoint
        state.safetensors       weights, their EMA, optimiser states
        state.json              step and history
        manifest.json           the SHA-256 of both, written last
    previews/step-00000100/     videos sampled after a step

The result, `data/06_models/<mode>/`:

    config.json, diffusion_pytorch_model.safetensors    EMA weights, read by `load_trained`
    weights.safetensors                                 weights of the last step
    metrics.json                                        losses, times (s), memory (bytes)
    training.json                                       as above, with devices and processes
"""

import re
from collections.abc import Iterator
from pathlib import Path

TRAINING, RUN, JOB = "training.json", "run.json", "job.json"
STATE, META, MANIFEST = "state.safetensors", "state.json", "manifest.json"
LAST_WEIGHTS, METRICS = "weights.safetensors", "metrics.json"

_STEP = "step-"
_DIGITS = 20  # of a fingerprint, in the name of a folder


def state_folder(work: Path, fingerprint: str, mode: str) -> Path:
    """Return the folder of a training's resume state."""
    return named_by(work, fingerprint) / mode


def state_folders(work: Path, mode: str) -> Iterator[Path]:
    """Yield the folders of resume state of all trainings of a mode."""
    return work.glob(f"*/{mode}")


def named_by(folder: Path, fingerprint: str) -> Path:
    """Return the folder in `folder` that is named by a fingerprint."""
    return folder / fingerprint[:_DIGITS]


def step_folder(state: Path, step: int) -> Path:
    """Return the checkpoint folder of a step."""
    return state / f"{_STEP}{step:08d}"


def step_of(path: Path) -> int:
    """Return the step of a checkpoint folder."""
    return int(path.name.removeprefix(_STEP))


def step_folders(state: Path) -> list[Path]:
    """Return the checkpoints' folders, newest first."""
    found = (path for path in state.glob(f"{_STEP}*") if re.fullmatch(_STEP + r"\d{8,}", path.name))
    return sorted((path for path in found if path.is_dir()), key=step_of, reverse=True)


def preview_folder(state: Path, step: int) -> Path:
    """Return the folder of the videos sampled after a step."""
    return state / "previews" / f"{_STEP}{step:08d}"
