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

from pathlib import Path

TRAINING, RUN, JOB = "training.json", "run.json", "job.json"
STATE, META, MANIFEST = "state.safetensors", "state.json", "manifest.json"
LAST_WEIGHTS, METRICS = "weights.safetensors", "metrics.json"

_STEP = "step-"


def step_folder(state: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return state / f"{_STEP}{step:08d}"


def step_of(path: Path) -> int:
    """The step that a checkpoint's folder is named by."""
    return int(path.name.removeprefix(_STEP))


def preview_folder(state: Path, step: int) -> Path:
    """The folder of the videos that were sampled after a step."""
    return state / "previews" / f"{_STEP}{step:08d}"
