"""What a training step of a mode will cost: it runs on fake tensors, which have shapes and no memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.models.factory import build_model, trainable_parameters
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.video_base import image_config
from mobius_pipeline.training.meters import (
    Category,
    count_flops,
    measure_step,
    optimizer_tensors,
    tensor_bytes,
)
from mobius_pipeline.training.optimizer import build_optimizer


@dataclass(frozen=True)
class StepShape:
    """Sizes of a training step: `batch` clips of `frames` latents of `height` x `width`, `tokens` of text."""

    batch: int
    frames: int
    height: int
    width: int
    tokens: int


@dataclass(frozen=True)
class Cost:
    """Parameters in numbers, memory in bytes, FLOPs of one step.

    Attributes:
        parameters: Number of parameters, frozen ones included.
        trainable: Number of parameters that training changes.
        static_bytes: What stays between steps: weights, EMA weights and the optimiser's states.
        peak_bytes: The most alive at one moment of a step.
        breakdown: What the peak is made of; sums to it.
        flops: Forward and backward; a multiply-add is two.
    """

    parameters: int
    trainable: int
    static_bytes: int
    peak_bytes: int
    breakdown: dict[Category, int]
    flops: float


@dataclass(frozen=True)
class TrainingStep:
    """A training step over made-up data, real or fake, and the tensors that live through it."""

    run: Callable[[], None]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: list[Tensor]
    inputs: list[Tensor]

    @property
    def weights(self) -> list[Tensor]:
        """All resident weights: the model's and their moving averages."""
        return [*self.model.parameters(), *self.model.buffers(), *self.ema]


def predict_training(
    unet_config: Mapping[str, Any], variant: Variant, shape: StepShape, *, autocast: bool = False
) -> Cost:
    """Predict the cost of a training step over the base of `unet_config`, without its weights.

    Args:
        unet_config: Of a `UNet2DConditionModel` or a `UNet3DConditionModel`.
        variant: What to train; `compile_spatial` changes nothing that is predicted.
        shape: Sizes of the step.
        autocast: Run the forward pass in bfloat16.

    Raises:
        MobiusError: If the UNet has a part that the video models do not know, or the variant cannot be
            predicted.
    """
    if variant.spatial_dtype == "int8":
        raise MobiusError(
            "spatial_dtype: int8 cannot be predicted: torchao quantises real weights only. Plan with float32."
        )
    plain = replace(variant, compile_spatial=False)
    with FakeTensorMode():
        model = build_model(plain, UNet2DConditionModel.from_config(image_config(unet_config)), seed=0)
        return measure_training(training_step(model, model_inputs(unet_config, shape), autocast=autocast))


def measure_training(step: TrainingStep) -> Cost:
    """Run two steps, the first to count FLOPs and make the optimiser's states, the second to measure."""
    flops = count_flops(step.run)
    memory = measure_step(step.run, weights=step.weights, optimizer=step.optimizer, inputs=step.inputs)
    return Cost(
        parameters=sum(parameter.numel() for parameter in step.model.parameters()),
        trainable=sum(average.numel() for average in step.ema),
        static_bytes=tensor_bytes([*step.weights, *optimizer_tensors(step.optimizer)]),
        peak_bytes=memory.peak_bytes,
        breakdown=memory.breakdown,
        flops=flops,
    )


def model_inputs(unet_config: Mapping[str, Any], shape: StepShape) -> list[Tensor]:
    """Noisy latents (B, C, F, H, W), timesteps (B,), text (B, L, D) and the target, as the latents."""
    latents = (shape.batch, unet_config["in_channels"], shape.frames, shape.height, shape.width)
    return [
        torch.zeros(latents),
        torch.zeros(shape.batch, dtype=torch.int64),
        torch.zeros(shape.batch, shape.tokens, unet_config["cross_attention_dim"]),
        torch.zeros(latents),
    ]


def training_step(
    model: nn.Module, inputs: list[Tensor], *, autocast: bool = False, state_bits: Literal[8, 32] = 32
) -> TrainingStep:
    """Make the step that training runs: AdamW, gradients clipped by norm, EMA of what is trained."""
    trained = list(trainable_parameters(model).values())
    optimizer = build_optimizer(trained, state_bits=state_bits, lr=1e-3)
    ema = [parameter.detach().clone() for parameter in trained]
    noisy, timesteps, text, target = inputs

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=autocast):
            prediction = model(noisy, timesteps, text, return_dict=False)[0]
        loss = functional.mse_loss(prediction.float(), target)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(ema, trained, strict=True):
                average.lerp_(parameter, 0.01)

    model.train()
    return TrainingStep(run, model, optimizer, ema, inputs)
