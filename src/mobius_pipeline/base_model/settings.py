"""Checks of a base model's configuration files: settings that this project does not apply are refused.

A setting that changes the computation but is ignored would train a different model than its author's.
"""

import inspect
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDPMScheduler

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json

# Schedulers over a discrete schedule of betas: they differ in sampling, not in training.
_SCHEDULERS = {
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
}
_PREDICTIONS = ("epsilon", "v_prediction")
MOST_TOKENS = 100_000  # where a tokenizer has no length, transformers uses 10^30
# Settings that only affect how a scheduler samples; this project samples with DDIM.
_OF_SAMPLING = {
    "algorithm_type",
    "disable_corrector",
    "euler_at_final",
    "final_sigmas_type",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "predict_x0",
    "set_alpha_to_one",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "steps_offset",
    "timestep_type",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
}
# Settings that would change training, with the values at which they do not.
_AT_REST: dict[str, tuple[Any, ...]] = {
    "flow_shift": (None, 1),
    "latents_mean": (None,),
    "latents_std": (None,),
    "shift_factor": (None, 0),
    "shift_terminal": (None,),
    "time_shift_type": (None, "exponential"),
    "use_dynamic_shifting": (None, False),
    "use_flow_sigmas": (None, False),
}


def check_scheduler(folder: Path) -> None:
    """Check that objective and sampling support a noise schedule.

    Raises:
        MobiusError: If not, with the file, its setting and the supported ones.
    """
    path = folder / "scheduler_config.json"
    config = _read(path)
    if config.get("_class_name") not in _SCHEDULERS:
        raise MobiusError(
            f"{path} names the class {config.get('_class_name')}. Flow matching and EDM are not supported; "
            f"supported are {', '.join(sorted(_SCHEDULERS))}."
        )
    if config.get("prediction_type", "epsilon") not in _PREDICTIONS:
        raise MobiusError(
            f"{path} has prediction_type {config['prediction_type']!r}; supported are "
            f"{' and '.join(_PREDICTIONS)}."
        )
    _refuse_unknown(path, config, _parameters(DDPMScheduler) | _OF_SAMPLING)


def check_vae(folder: Path) -> None:
    """Check that a VAE is an `AutoencoderKL` whose latents are scaled by one factor.

    Raises:
        MobiusError: If not, with the file and its setting.
    """
    path = folder / "config.json"
    config = _read(path)
    if config.get("_class_name") != "AutoencoderKL":
        raise MobiusError(
            f"{path} names the class {config.get('_class_name')}; latents are made with an AutoencoderKL. "
            "Use a model with one."
        )
    _refuse_unknown(path, config, _parameters(AutoencoderKL))


def scaling_factor(base: Path) -> float:
    """Return the factor of the latents of a base's VAE, from its configuration alone.

    Raises:
        MobiusError: If `check_vae` refuses the VAE.
    """
    folder = base / "vae"
    check_vae(folder)
    default = inspect.signature(AutoencoderKL.__init__).parameters["scaling_factor"].default
    return float(_read(folder / "config.json").get("scaling_factor", default))


def text_tokens(base: Path) -> int:
    """Read the length of a text embedding, in tokens: the tokenizer's `model_max_length`.

    Raises:
        MobiusError: If the tokenizer's configuration is missing or names no length.
    """
    path = base / "tokenizer/tokenizer_config.json"
    found = _read(path).get("model_max_length")
    if not isinstance(found, int) or not 0 < found <= MOST_TOKENS:
        raise MobiusError(
            f"{path} has no model_max_length: captions would have no fixed length. Set it to the text "
            "encoder's, 77 for CLIP."
        )
    return found


def read_index(folder: Path) -> dict[str, Any]:
    """Read `model_index.json`, which names the class of each part.

    Raises:
        MobiusError: If it is missing or not a JSON object.
    """
    return _read(folder / "model_index.json")


def _parameters(cls: type[Any]) -> set[str]:
    """Return the settings that a class of diffusers applies itself."""
    return set(inspect.signature(cls.__init__).parameters)


def _refuse_unknown(path: Path, config: dict[str, Any], applied: set[str]) -> None:
    unknown = {
        key: value
        for key, value in config.items()
        if not key.startswith("_")
        and (value not in _AT_REST[key] if key in _AT_REST else value is not None and key not in applied)
    }
    if unknown:
        settings = ", ".join(f"{key}: {value}" for key, value in unknown.items())
        raise MobiusError(
            f"{path} has {settings}, which this project does not apply: training would not compute what the "
            "model's author did. Use another base."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise MobiusError(
            f"Cannot read {path} ({error}). Take the model from its publisher again."
        ) from error
    if not isinstance(config, dict):
        raise MobiusError(f"{path} is not a JSON object. Take the model from its publisher again.")
    return config
