"""Make clips fail in decoding or in the VAE, in any process, as a file lists.

Each line of the file gives what fails ("read" or "vae"), for which clip (its path, or the digest of its
frames), how ("raise", "refuse", "kill" or "hang"), and how often.
"""

import os
from pathlib import Path

from deadly import failing, key_of, read

from mobius_pipeline.latents import dataflow, encoder
from mobius_pipeline.latents.encoder import ClipModel, Setting

_posterior_moments = encoder.posterior_moments


def install() -> None:
    """Make clips fail in this process and its encoding processes."""
    encoder.read_sized = read
    encoder.posterior_moments = failing("vae", _posterior_moments)
    dataflow.Setting = FailingSetting


class FailingSetting(Setting):
    """Makes clips fail in every process that it is sent to."""

    def model(self, device: str) -> ClipModel:
        install()
        return super().model(device)


class DyingSetting(Setting):
    """Kills every process that loads a model."""

    def model(self, device: str) -> ClipModel:
        os._exit(3)


class OnceDyingSetting(Setting):
    """Kills only the first process that loads a model, and records that in the folder of the base."""

    def model(self, device: str) -> ClipModel:
        try:
            (self.base / "died").touch(exist_ok=False)
        except FileExistsError:
            return super().model(device)
        os._exit(3)


def in_reading(path: str, how: str, times: int) -> str:
    return f"read {path} {how} {times}\n"


def in_the_vae(clips: Path, path: str, how: str, times: int) -> str:
    import torch  # these are for the one process that writes down what fails

    import tiny
    from mobius_pipeline.media.clip import load_clip

    frames = encoder.to_unit(torch.from_numpy(load_clip(clips / path, tiny.CLIP)))
    return f"vae {key_of(frames)} {how} {times}\n"
