"""A diffusers pipeline from prompts to videos, over a base and the weights trained on it.

Shapes: `B` videos, `F` frames, `C` latent channels, `h w` latent size, `L` text tokens, `D` text width.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor, nn

from mobius_pipeline.models.pretrained import load_trained, save_trained
from mobius_pipeline.models.text import encode_text
from mobius_pipeline.runtime.addresses import local_path
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json

Generators = torch.Generator | Sequence[torch.Generator] | None
OutputType = Literal["pil", "np", "pt", "latent"]

TRAINED = "mobius"  # folder of the trained weights in an export
_LIBRARIES = ("diffusers", "transformers")  # libraries that a base's model_index.json may name
# At eta 1 and zero terminal SNR, DDIM takes the root of a number that rounding can make negative.
_MAX_ETA = 1 - 1e-6


@dataclass
class TextToVideoOutput(BaseOutput):
    """Output of the pipeline: `frames` in the form of the output type (see `__call__`)."""

    frames: Any


class MobiusTextToVideoPipeline(DiffusionPipeline):
    """Samples videos with a model of any mode, with classifier-free guidance and any diffusers scheduler."""

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: nn.Module,
        tokenizer: Any,
        unet: nn.Module,
        scheduler: SchedulerMixin,
    ) -> None:
        """Combine the parts; `from_pretrained` loads them."""
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
        self.base: Path | None = None  # directory of the parts; `save_pretrained` refers to it
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.video_processor = VideoProcessor(do_resize=False, vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(
        cls, base: str | Path, trained: str | Path | None = None, *, other_base: bool = False, **levers: Any
    ) -> "MobiusTextToVideoPipeline":
        """Load a base directory and the weights trained on it.

        Args:
            base: A T2I or T2V directory in diffusers' format.
            trained: A training's folder (`data/06_models/<mode>`), or one from `save_pretrained`; None:
                `base` is an export of a parallel training (`mobius export`), which holds both.
            other_base: Allow another base of the same shape than the one that it was trained on.
            levers: Memory options of `Variant` that replace the trained ones, such as `spatial_dtype`.

        Raises:
            MobiusError: If a part is missing or does not fit, the base is another, or a folder is a URL.
        """
        base = local_path(base)
        trained = base / TRAINED if trained is None else local_path(trained)
        parts = _load_parts(base)
        pipeline = cls(**parts, unet=load_trained(trained, base, other_base=other_base, **levers))
        pipeline.base = base
        return pipeline

    @classmethod
    def around(cls, unet: nn.Module, base: Path) -> "MobiusTextToVideoPipeline":
        """Combine a model in memory, such as one in training, with the other parts of a base directory.

        Raises:
            MobiusError: If a part is missing.
        """
        pipeline = cls(**_load_parts(base), unet=unet)
        pipeline.base = base
        return pipeline

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Save only the trained weights, with a reference to the base; `from_pretrained` loads both again.

        Raises:
            MobiusError: If the pipeline was not loaded by `from_pretrained`, so that its base is unknown.
        """
        if self.base is None:
            raise MobiusError(
                "Only a pipeline from `from_pretrained` knows its base. Save the model with "
                "`save_trained(pipe.unet, folder, base)` of mobius_pipeline.models.pretrained."
            )
        save_trained(self.unet, Path(save_directory), self.base)

    def enable_vae_slicing(self) -> None:
        """Decode one frame at a time, which takes less memory."""
        self.vae.enable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode large frames in tiles, which takes less memory and leaves faint seams."""
        self.vae.enable_tiling()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_frames: int = 16,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: str | Sequence[str] | None = None,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, int, dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> TextToVideoOutput | tuple[Any]:
        """Sample a video for each prompt.

        Args:
            prompt: One prompt or several; None if `prompt_embeds` is given.
            num_frames: Frames per video, F.
            height: Height of the frames in px; None: the size that the base was trained at.
            width: Width of the frames, likewise.
            num_inference_steps: Denoising steps.
            guidance_scale: The prediction is `p(negative) + guidance_scale * (p(prompt) - p(negative))`
                (Ho & Salimans 2022); 1 or less turns guidance off.
            negative_prompt: Prompt to steer away from; None: the empty prompt.
            num_videos_per_prompt: Videos per prompt, next to each other in the result.
            eta: DDIM's eta, limited to `_MAX_ETA`; other schedulers ignore it.
            generator: One for the whole batch, or one per video.
            latents: Initial noise, (B, C, F, h, w); None: it is drawn.
            prompt_embeds: Text embeddings instead of prompts, (P, L, D) for P prompts.
            negative_prompt_embeds: Text embeddings instead of negative prompts, (P, L, D) or (1, L, D).
            output_type: `pil` lists of images; `np` float32 (B, F, H, W, 3) in 0..1; `pt` a tensor
                (B, F, 3, H, W) in 0..1; `latent` scaled latents (B, C, F, h, w).
            return_dict: Return a `TextToVideoOutput` instead of a tuple.
            callback_on_step_end: Called with the pipeline, the step, the timestep and `{"latents": …}`;
                the `latents` that it returns are used from there on.

        Raises:
            MobiusError: If an argument cannot be used, with the reason.
        """
        cond = self._text(prompt, prompt_embeds, "prompt")
        videos = len(cond) * num_videos_per_prompt
        shape = self._latent_shape(videos, num_frames, height, width, latents)
        generator = _generators(generator, videos)
        _check_choices(num_inference_steps, output_type)
        text = cond
        if guidance_scale > 1:
            uncond = self._text(negative_prompt or "", negative_prompt_embeds, "negative_prompt")
            text = torch.cat([_one_each(uncond, cond).to(cond), cond])
        device = self._execution_device
        text = text.repeat_interleave(num_videos_per_prompt, dim=0).to(device, self.vae.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        # In float32 between the steps, whatever the model computes in, because rounding errors would add up.
        latents = latents.to(device, torch.float32) * self.scheduler.init_noise_sigma
        extra = _accepted(self.scheduler.step, {"eta": min(eta, _MAX_ETA), "generator": generator})

        for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            prediction = self._predict(latents, timestep, text, guidance_scale)
            latents = self.scheduler.step(prediction, timestep, latents, **extra, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, step, timestep, {"latents": latents})["latents"]

        frames = latents if output_type == "latent" else self._decode(latents, output_type)
        self.maybe_free_model_hooks()
        return TextToVideoOutput(frames=frames) if return_dict else (frames,)

    def _predict(self, latents: Tensor, timestep: Tensor, text: Tensor, scale: float) -> Tensor:
        """Return the guided prediction, float32 (B, C, F, h, w); with guidance, `text` is (2 B, L, D)."""
        guided = len(text) == 2 * len(latents)
        seen = torch.cat([latents, latents]) if guided else latents
        seen = self.scheduler.scale_model_input(seen, timestep)
        prediction: Tensor = self.unet(seen.to(text.dtype), timestep, text, return_dict=False)[0].float()
        if not guided:
            return prediction
        uncond, cond = prediction.chunk(2)
        return uncond + scale * (cond - uncond)

    def _text(self, prompts: str | Sequence[str] | None, embeddings: Tensor | None, name: str) -> Tensor:
        """Return text embeddings, (P, L, D): given ones, or those of prompts."""
        if embeddings is None:
            return encode_text(self.tokenizer, self.text_encoder, _prompts(prompts, name))
        if prompts:
            raise MobiusError(f"{name} and {name}_embeds are both given. Pass one of them.")
        width = self.unet.config.cross_attention_dim
        if embeddings.ndim != 3 or embeddings.shape[2] != width:
            raise MobiusError(f"{name}_embeds of {tuple(embeddings.shape)}; expected (P, L, {width}).")
        return embeddings

    def _latent_shape(
        self, videos: int, frames: int, height: int | None, width: int | None, latents: Tensor | None
    ) -> tuple[int, ...]:
        scale, own = self.vae_scale_factor, self.unet.config.sample_size
        if latents is not None and latents.ndim == 5:
            own = tuple(latents.shape[3:])
        own_height, own_width = (own, own) if isinstance(own, int) else own
        height, width = height or own_height * scale, width or own_width * scale
        if videos < 1 or frames < 1:
            raise MobiusError(f"{videos} videos of {frames} frames cannot be sampled: take at least 1.")
        if height % scale or width % scale:
            raise MobiusError(f"{height} x {width} px: the VAE takes multiples of {scale} px.")
        shape = (videos, self.unet.config.in_channels, frames, height // scale, width // scale)
        if latents is not None and tuple(latents.shape) != shape:
            raise MobiusError(f"latents of {tuple(latents.shape)}; expected (B, C, F, h, w) as {shape}.")
        return shape

    def _decode(self, latents: Tensor, output_type: OutputType) -> Any:
        """Decode (B, C, F, h, w) to frames, one video at a time to limit memory."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        videos = [self.vae.decode(video.transpose(0, 1), return_dict=False)[0] for video in scaled]
        return self.video_processor.postprocess_video(
            torch.stack(videos).transpose(1, 2), output_type=output_type
        )


def _prompts(prompt: str | Sequence[str] | None, name: str) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, Sequence) else []
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise MobiusError(f"{name}: {prompt!r} is neither a text nor a list of texts.")
    return prompts


def _one_each(uncond: Tensor, cond: Tensor) -> Tensor:
    """Expand negative embeddings to one per prompt; there may be one for all, or one per prompt."""
    count = len(cond)
    if len(uncond) not in (1, count):
        raise MobiusError(
            f"negative_prompt: {len(uncond)} of them for {count} prompts. Pass one, or one per prompt."
        )
    if uncond.shape[1:] != cond.shape[1:]:
        lengths = f"{uncond.shape[1]} and {cond.shape[1]} tokens"
        raise MobiusError(f"Negative and prompt embeddings have {lengths}. Both need the same length.")
    return uncond.expand(count, -1, -1)


def _generators(generator: Generators, videos: int) -> torch.Generator | list[torch.Generator] | None:
    if not isinstance(generator, Sequence):
        return generator
    if len(generator) != videos:
        raise MobiusError(f"generator: {len(generator)} of them for {videos} videos. Pass one per video.")
    return list(generator)


def _check_choices(steps: int, output_type: str) -> None:
    if steps < 1:
        raise MobiusError(f"num_inference_steps: {steps} is not a number of steps; take 1 or more.")
    if output_type not in get_args(OutputType):
        raise MobiusError(f"output_type: {output_type!r} is none of {', '.join(get_args(OutputType))}.")


def _accepted(call: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return those of `options` that `call` accepts: schedulers differ in the arguments of a step."""
    names = inspect.signature(call).parameters
    return {name: value for name, value in options.items() if name in names}


def _load_parts(base: Path) -> dict[str, Any]:
    """Load all parts of a base but its UNet, with DDIM over its noise schedule."""
    parts = {name: _load_part(base, name) for name in ("vae", "text_encoder", "tokenizer")}
    return {**parts, "scheduler": DDIMScheduler.from_config(_load_part(base, "scheduler").config)}


def _load_part(base: Path, name: str) -> Any:
    """Load a part of a base with the class that its `model_index.json` names."""
    try:
        library, class_name = read_json(base / "model_index.json")[name]
        if library not in _LIBRARIES:
            raise ValueError(f"its model_index.json names the library {library}, not {_LIBRARIES}")
        part = getattr(importlib.import_module(library), class_name).from_pretrained(base / name)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise MobiusError(
            f"Cannot load the {name} of {base} ({error}). Name a T2I directory in diffusers' format."
        ) from error
    # Float32, whatever format the files have: training encodes prompts in float32.
    return part.float().requires_grad_(False).eval() if isinstance(part, nn.Module) else part
