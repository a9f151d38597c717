"""Predict the cost of a training step by running it on fake tensors, which have shapes but no memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from mobius_pipeline.models.factory import build_model, trainable_parameters
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.autocast import use_cudas_autocast
from mobius_pipeline.planning.operations import Operations
from mobius_pipeline.planning.roofline import Operation
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.meters import (
    Category,
    count_flops,
    measure_step,
    tensor_bytes,
)
from mobius_pipeline.training.optimizer import build_optimizer, optimizer_tensors

_TENSORS_A_PART = 4  # that `model_inputs` returns per part


@dataclass(frozen=True)
class Cost:
    """Cost of a training step.

    Attributes:
        parameters: Number of parameters, frozen ones included.
        trainable: Number of trained parameters.
        static_bytes: Bytes that stay allocated between steps: weights, EMA weights and optimiser states.
        peak_bytes: Peak of live bytes during a step.
        breakdown: Parts of the peak, in bytes; they sum up to it.
        flops: FLOPs, forward and backward; a multiply-add counts as two.
        operations: Operations of the step, in order, for `roofline.seconds`.
    """

    parameters: int
    trainable: int
    static_bytes: int
    peak_bytes: int
    breakdown: dict[Category, int]
    flops: float
    operations: tuple[Operation, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class TrainingStep:
    """A training step over made-up data, on real or fake tensors, and the tensors that outlive it."""

    run: Callable[[], Tensor]  # returns the loss
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMAModel | None
    inputs: list[Tensor]  # read by every run

    @property
    def trained(self) -> list[Tensor]:
        """Parameters that the step trains."""
        return list(trainable_parameters(self.model).values())

    @property
    def weights(self) -> list[Tensor]:
        """All resident weights: the model's, with buffers, and their moving averages."""
        averages = [] if self.ema is None else self.ema.shadow_params
        return [*self.model.parameters(), *self.model.buffers(), *averages]


class Predictor(Protocol):
    """Predicts the cost of steps of one model."""

    def __call__(self, shape: StepShape, operations: Operations | None = None) -> Cost:
        """Predict a step of these sizes; list its operations in `operations`, if given."""


def predict_training(
    unet_config: Mapping[str, Any],
    variant: Variant,
    shape: StepShape,
    *,
    autocast: bool = False,
    ema: bool = True,
    device: Literal["cuda", "cpu"] = "cuda",
) -> Cost:
    """Predict the cost of a training step over the base of `unet_config`, without its weights.

    The VAE and the text encoder are not counted: training reads cached latents and text embeddings and does
    not load them.

    Args:
        unet_config: Configuration of a `UNet2DConditionModel` or a `UNet3DConditionModel`.
        variant: Model to train; `compile_spatial` does not change the prediction.
        shape: Sizes of the step.
        autocast: Run the forward pass in bfloat16.
        ema: Keep a moving average of the trained parameters, as the pipeline's training does.
        device: Device whose autocast rules apply; without autocast both give the same cost.

    Raises:
        MobiusError: If the UNet has a part that the video models do not support, or the variant cannot be
            predicted.
    """
    return predictor(unet_config, variant, autocast=autocast, ema=ema, device=device)(shape)


def predictor(
    unet_config: Mapping[str, Any],
    variant: Variant,
    *,
    autocast: bool = False,
    ema: bool = True,
    device: Literal["cuda", "cpu"] = "cuda",
) -> Predictor:
    """Build the model once, to predict steps of many sizes; see `predict_training`."""
    base, model, mode = _fake_model(unet_config, variant)
    if autocast and device == "cuda":
        use_cudas_autocast(model)
    with mode:
        step = training_step(model, [], autocast=autocast, ema=ema)
        _make_states(step)

    def predict(shape: StepShape, operations: Operations | None = None) -> Cost:
        with mode:
            step.inputs[:] = model_inputs(base, shape)
            return _measure(step, operations)

    return predict


def predict_flops(
    unet_config: Mapping[str, Any], variant: Variant, shape: StepShape, *, autocast: bool = False
) -> float:
    """Predict only the FLOPs of a training step, in half the time; see `predict_training`."""
    base, model, mode = _fake_model(unet_config, variant)
    model.train()

    def forward_and_backward() -> None:
        _loss(model, model_inputs(base, shape), autocast).backward()  # type: ignore[no-untyped-call]

    with mode:
        return count_flops(forward_and_backward)


def _fake_model(
    unet_config: Mapping[str, Any], variant: Variant
) -> tuple[Mapping[str, Any], nn.Module, FakeTensorMode]:
    """Return the base's full configuration, the model over it, and the mode of its fake weights."""
    if variant.spatial_dtype == "int8":
        raise MobiusError(
            "spatial_dtype: int8 cannot be predicted, because torchao quantises only real weights. Plan with "
            "float32."
        )
    is_video = any("3D" in name for name in unet_config["down_block_types"])
    with torch.device("meta"):
        base = (UNet3DConditionModel if is_video else UNet2DConditionModel).from_config(dict(unet_config))
        model = build_model(replace(variant, compile_spatial=False), base, seed=0)
    mode = FakeTensorMode()
    with mode:
        fake_weights(model)
    return base.config, model, mode


def fake_weights(model: nn.Module) -> None:
    """Replace a model's meta tensors by fake CPU tensors.

    The model is built on the meta device because `Module.to` refuses fake parameters. It is measured on fake
    CPU tensors because the meta device has no fused attention.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = nn.Parameter(_fake_like(parameter), requires_grad=parameter.requires_grad)
                module._parameters[name] = fake
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _fake_like(buffer)


def _fake_like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def _make_states(step: TrainingStep) -> None:
    """Make AdamW's states; running a first step would make them, too, but take longer."""
    for parameter in step.trained:
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        step.optimizer.state[parameter] = {"step": torch.zeros(()), **moments}


def measure_training(step: TrainingStep) -> Cost:
    """Run two steps: the first makes the optimiser's states, the second is measured."""
    step.run()
    return _measure(step)


def _measure(step: TrainingStep, listed: Operations | None = None) -> Cost:
    with listed or Operations() as operations:
        memory = measure_step(step.run, weights=step.weights, optimizer=step.optimizer, inputs=step.inputs)
    return Cost(
        parameters=sum(parameter.numel() for parameter in step.model.parameters()),
        trainable=sum(parameter.numel() for parameter in step.trained),
        static_bytes=tensor_bytes([*step.weights, *optimizer_tensors(step.optimizer)]),
        peak_bytes=memory.peak_bytes,
        breakdown=memory.breakdown,
        flops=float(operations.flops),
        operations=tuple(operations.found),
    )


def model_inputs(unet_config: Mapping[str, Any], shape: StepShape) -> list[Tensor]:
    """Return for each part noisy latents (B, C, F, H, W), timesteps (B,), text (B, L, D) and the target."""
    clips = max(1, shape.batch // shape.parts)
    latents = (clips, unet_config["in_channels"], shape.frames, shape.height, shape.width)
    return [
        tensor
        for _ in range(shape.parts)
        for tensor in (
            torch.zeros(latents),
            torch.zeros(clips, dtype=torch.int64),
            torch.zeros(clips, shape.tokens, unet_config["cross_attention_dim"]),
            torch.zeros(latents),
        )
    ]


def training_step(
    model: nn.Module,
    inputs: list[Tensor],
    *,
    autocast: bool = False,
    state_bits: Literal[8, 32] = 32,
    ema: bool = True,
) -> TrainingStep:
    """Make the step of `Trainer.train_step`: AdamW, gradients clipped by norm, EMA of trained parameters."""
    trained = list(trainable_parameters(model).values())
    optimizer = build_optimizer(trained, state_bits=state_bits, lr=1e-3)
    averages = EMAModel(trained, foreach=True) if ema else None

    def run() -> Tensor:
        for part in range(0, len(inputs), _TENSORS_A_PART):
            loss = _loss(model, inputs[part : part + _TENSORS_A_PART], autocast)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)  # torch's default, but only for real tensors
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if averages is not None:
            averages.step(trained)
        return loss.detach()

    model.train()
    return TrainingStep(run, model, optimizer, averages, inputs)


def _loss(model: nn.Module, inputs: list[Tensor], autocast: bool) -> Tensor:
    noisy, timesteps, text, target = inputs
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=autocast):
        prediction = model(noisy, timesteps, text, return_dict=False)[0]
    return functional.mse_loss(prediction.float(), target)
