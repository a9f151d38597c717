"""Collect the parts of a registered model: code, weights, requirements, settings, example, card."""

import shutil
from importlib.metadata import version
from pathlib import Path

import mobius_pipeline
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.models.base_unet import CONFIG, WEIGHTS
from mobius_pipeline.registry.config import RegisterConfig
from mobius_pipeline.tracking.models import ModelFiles
from mobius_pipeline.training.layout import METRICS, TRAINING
from mobius_pipeline.training.result import TrainingResult

CARD = "MODEL_CARD.md"
CODE = Path(__file__).with_name("model_code.py")
# Packages that sampling imports, with those that diffusers and MLflow import only if they are installed.
REQUIREMENTS = (
    "accelerate", "av", "diffusers", "einops", "imagehash", "mlflow", "numpy", "pandas", "pillow", "psutil",
    "pyarrow", "pydantic", "pyyaml", "rich", "safetensors", "scipy", "torch", "transformers",
)  # fmt: skip
_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc")


def model_files(
    folder: Path,
    trained: TrainingResult,
    base: BaseModel,
    clip: ClipFormat,
    config: RegisterConfig,
    card: str,
) -> ModelFiles:
    """Return the parts of a registered model.

    Args:
        folder: An empty folder for copies; it must exist until the model is logged.
        trained: The training.
        base: The base of the training.
        clip: The format of sampled clips.
        config: The settings of the registry.
        card: The model card.
    """
    return ModelFiles(
        code=CODE,
        package=_package(folder),
        requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        artifacts=_artifacts(folder, trained, base, config, card),
        settings={
            "base": None if config.include_base else str(base.folder.resolve()),
            "trained_over": trained.description.fingerprints.base[:20],
            "clip": clip.model_dump(),
            "batch_size": 1,
            "device": None,
        },
        example=([config.prompt], config.sampling.model_dump()),
    )


def _artifacts(
    folder: Path, trained: TrainingResult, base: BaseModel, config: RegisterConfig, card: str
) -> dict[str, Path]:
    """Return the model's files by name; those of the training are copied as far as sampling reads them."""
    weights = folder / "trained"
    weights.mkdir()
    for name in (CONFIG, WEIGHTS, METRICS, TRAINING):
        shutil.copy(trained.folder / name, weights / name)
    written = folder / CARD
    written.write_text(card, encoding="utf-8")
    return {"trained": weights, "card": written, **({"base": base.folder} if config.include_base else {})}


def _package(folder: Path) -> Path:
    """Copy this package without compiled files, and return the copy."""
    package = Path(mobius_pipeline.__file__).parent
    return Path(shutil.copytree(package, folder / "code" / package.name, ignore=_NOT_CODE))
