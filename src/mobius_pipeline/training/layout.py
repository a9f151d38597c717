"""Where the files of a training lie.

Its resume state, `data/.work/<fingerprint>/<mode>/`:

    training.json               model, settings and fingerprints: whose resume state it is
    run.json                    the run in MLflow that it is recorded in
    job.json                    what every process of it reads, where there are several
    step-00000100/              a checkpoint
        state.safetensors       weights, their average, the optimiser's states
        state.json              step, and the training's record of itself
        manifest.json           the SHA-256 of both, written last
    previews/step-00000100/     videos that were sampled after a step

Its result, `data/06_models/<mode>/`:

    config.json, diffusion_pytorch_model.safetensors    EMA weights, as `load_trained` takes them
    weights.safetensors                                 the last step's weights
    metrics.json                                        losses, times (s), memory (bytes)
    training.json                                       as above, and what it ran on
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
    """The folder of the checkpoint of a step."""
    return state / f"{_STEP}{step:08d}"


def step_of(path: Path) -> int:
    """The step that a checkpoint's folder is named by."""
    return int(path.name.removeprefix(_STEP))


def step_folders(state: Path) -> list[Path]:
    """Return the checkpoints' folders, newest first."""
    found = (path for path in state.glob(f"{_STEP}*") if re.fullmatch(_STEP + r"\d{8,}", path.name))
    return sorted((path for path in found if path.is_dir()), key=step_of, reverse=True)


def preview_folder(state: Path, step: int) -> Path:
    """The folder of the videos that were sampled after a step."""
    return state / "previews" / f"{_STEP}{step:08d}"
