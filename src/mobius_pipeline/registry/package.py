"""A trained model as a folder that MLflow loads: code, weights, requirements, signature, example, card."""

import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mobius_pipeline
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.models.base_unet import CONFIG, WEIGHTS
from mobius_pipeline.registry.config import RegisterConfig
from mobius_pipeline.training.layout import METRICS, TRAINING
from mobius_pipeline.training.result import TrainingResult

CARD = "MODEL_CARD.md"
CODE = Path(__file__).with_name("model_code.py")
# What sampling imports, with what diffusers and MLflow import only if it is there.
REQUIREMENTS = (
    "accelerate", "av", "diffusers", "einops", "imagehash", "mlflow", "numpy", "pandas", "pillow", "psutil",
    "pyarrow", "pydantic", "pyyaml", "rich", "safetensors", "scipy", "torch", "transformers",
    "typing-extensions",
)  # fmt: skip
_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc")


def write_model(
    target: Path, trained: TrainingResult, base: Path, clip: ClipFormat, config: RegisterConfig, card: str
) -> None:
    """Write a model in MLflow's format; writing it samples the input example once, as a check.

    Args:
        target: The folder to write.
        trained: The training.
        base: The base that it was trained over.
        clip: What it samples.
        config: Of the registry.
        card: The model card.
    """
    import mlflow

    with TemporaryDirectory() as folder:
        parts = _parts(Path(folder), trained, base, config, card)
        settings = {
            "base": None if config.include_base else str(base.resolve()),
            "trained_over": trained.description["fingerprints"]["base"][:20],
            "clip": clip.model_dump(),
            "batch_size": 1,
            "device": None,
        }
        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(CODE),
            artifacts={name: str(path) for name, path in parts.items()},
            code_paths=[str(_code(Path(folder)))],
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
            input_example=([config.prompt], config.sampling.model_dump()),
            model_config=settings,
        )


def _parts(
    folder: Path, trained: TrainingResult, base: Path, config: RegisterConfig, card: str
) -> dict[str, Path]:
    """The model's files by name; of the training, those that sampling reads."""
    weights = folder / "trained"
    weights.mkdir()
    for name in (CONFIG, WEIGHTS, METRICS, TRAINING):
        shutil.copy(trained.folder / name, weights / name)
    written = folder / CARD
    written.write_text(card, encoding="utf-8")
    return {"trained": weights, "card": written, **({"base": base} if config.include_base else {})}


def _code(folder: Path) -> Path:
    """A copy of this package, without what was compiled."""
    package = Path(mobius_pipeline.__file__).parent
    return Path(shutil.copytree(package, folder / "code" / package.name, ignore=_NOT_CODE))
