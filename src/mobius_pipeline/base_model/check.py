"""Check and import a base model, before encoding, training or sampling uses it."""

import errno
import shutil
from pathlib import Path

from mobius_pipeline.base_model.load import TextEncoder, load_scheduler, load_vae
from mobius_pipeline.base_model.settings import read_index
from mobius_pipeline.models.base_unet import load_base
from mobius_pipeline.models.layout import read_layout
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
_SECOND = ("text_encoder_2", "tokenizer_2", "transformer", "prior")  # of pipelines with more networks


def check_base(folder: Path) -> None:
    """Load every part of a T2I or T2V model in diffusers' format, and check that they fit each other.

    Raises:
        MobiusError: If a later step would fail; names the file, its content and the remedy.
    """
    missing = [name for name in ("model_index.json", *PARTS) if not (folder / name).exists()]
    if missing:
        raise MobiusError(
            f"{folder} is not a T2I model in diffusers' format: it lacks {', '.join(missing)}. "
            f"Name a directory that `DiffusionPipeline.save_pretrained` wrote, with {', '.join(PARTS)}."
        )
    index = read_index(folder)
    further = [name for name in _SECOND if any(index.get(name) or ())]
    if further:
        raise MobiusError(
            f"{folder}/model_index.json has {', '.join(further)}. Name a model with one text encoder and a "
            "UNet, in the layout of Stable Diffusion 1.x or 2.x (SDXL has two encoders)."
        )
    load_scheduler(folder)
    width = TextEncoder(folder, "cpu")([""]).shape[-1]
    latent_channels = load_vae(folder).config.latent_channels
    unet = load_base(folder)
    config, path = unet.config, folder / "unet/config.json"
    try:
        read_layout(unet)
    except MobiusError as error:
        raise MobiusError(f"{path}: {error}") from error
    if config.in_channels != latent_channels or config.out_channels != latent_channels:
        inpainting = (
            " An inpainting model also reads a mask." if config.in_channels == 2 * latent_channels + 1 else ""
        )
        raise MobiusError(
            f"{path} has in_channels {config.in_channels} and out_channels {config.out_channels}; the "
            f"latents of {folder}/vae have {latent_channels}.{inpainting} Take a text-to-image model."
        )
    if config.cross_attention_dim != width:
        raise MobiusError(
            f"{path} has cross_attention_dim {config.cross_attention_dim}; the text encoder in "
            f"{folder}/text_encoder is {width} wide. Take both from the same model."
        )


def import_base(source: Path, target: Path) -> Path:
    """Check a model and copy its parts to `target`, which is replaced when the copy is complete.

    Raises:
        MobiusError: If it cannot be used, or one of its files cannot be read.
    """
    check_base(source)
    with atomic_folder(target) as partial:
        try:
            shutil.copyfile(source / "model_index.json", partial / "model_index.json")
            for part in PARTS:
                shutil.copytree(source / part, partial / part)
        except (OSError, shutil.Error) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise MobiusError(
                f"Cannot copy {source} ({error}). The previous base is kept: make the files readable, "
                "and the targets of links, and run again."
            ) from error
    return target
