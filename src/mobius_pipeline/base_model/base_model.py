"""The base model as stages exchange it: a folder in diffusers' format, and what they read of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class BaseModel:
    """A T2I or T2V model in diffusers' format: VAE, text encoder, tokenizer, UNet and noise schedule.

    Files are read when they are asked for. `from_pretrained` of diffusers and transformers takes `folder`.
    """

    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a folder.

        Raises:
            MobiusError: If it has no readable `model_index.json`.
        """
        from mobius_pipeline.base_model.settings import read_index

        read_index(folder)
        return cls(folder)

    @property
    def digest(self) -> str:
        """SHA-256 over every file; they are read once in a process, while none of them changes."""
        from mobius_pipeline.base_model.load import base_fingerprint

        return base_fingerprint(self.folder)

    @cached_property
    def unet_config(self) -> dict[str, Any]:
        """The whole configuration of its UNet, defaults included.

        Raises:
            MobiusError: If there is none, or it is not a UNet's.
        """
        from mobius_pipeline.base_model.unet_config import read_unet_config

        return read_unet_config(self.folder)

    @cached_property
    def latent_scale(self) -> int:
        """Pixels that a latent cell spans.

        Raises:
            MobiusError: If the VAE's configuration cannot be read.
        """
        from mobius_pipeline.base_model.unet_config import latent_scale

        return latent_scale(self.folder)

    @cached_property
    def text_tokens(self) -> int:
        """Length of a text embedding, in tokens.

        Raises:
            MobiusError: If the tokenizer's configuration cannot be read or names no length.
        """
        from mobius_pipeline.base_model.settings import text_tokens

        return text_tokens(self.folder)
