"""The optimiser steps of a training: gradients, update, moving average of the weights.

Shapes: `b` clips in a part of a batch; see `Batch` for its tensors.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.batches import Batch
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.heldout import TIMESTEP_BINS, bin_name, timestep_bin
from mobius_pipeline.training.optimizer import build_optimizer, set_learning_rate
from mobius_pipeline.training.processes import Processes
from mobius_pipeline.training.schedule import learning_rates
from mobius_pipeline.training.state import load_tensors, tensors_of


class NotFiniteError(MobiusError):
    """A loss or a gradient is infinite or not a number; nothing was updated."""


def moving_average(weights: Iterable[nn.Parameter], config: TrainConfig) -> EMAModel:
    """Return the EMA of `weights`; its decay rises to `ema_decay` by one of diffusers' warm-ups."""
    power = config.ema_warmup_power
    warmup = {} if power is None else {"use_ema_warmup": True, "power": power}
    return EMAModel(weights, decay=config.ema_decay, foreach=True, **warmup)


class OptimizationState(NamedTuple):
    """Weights, EMA and optimiser states by name, and the number of steps of the EMA."""

    tensors: dict[str, Tensor]
    ema_steps: int


class Optimization:
    """The trained parameters of a model, their moving average, and the optimiser that updates them.

    Attributes:
        trained: Trained parameters by name.
        ema: Exponential moving average of the trained parameters.
        optimizer: AdamW with 32-bit or 8-bit states.
        learning_rate: Function from a step to its learning rate.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, config: TrainConfig, processes: Processes
    ) -> None:
        """Train the parameters of `model` that require gradients; it must already be on its device."""
        self._objective, self._config, self._processes = objective, config, processes
        self.trained = trainable_parameters(model)
        self.optimizer = build_optimizer(
            self.trained.values(),
            state_bits=config.optimizer.state_bits,
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            weight_decay=config.optimizer.weight_decay,
        )
        self.learning_rate = learning_rates(config.optimizer, config.end, config.batch_size)
        self.ema = moving_average(self.trained.values(), config)
        self._model = processes.ddp(model)

    def train_step(self, parts: Sequence[Batch], step: int) -> dict[str, float]:
        """Run one optimiser step; return the loss, also by timestep, and the gradient norm before clipping.

        Raises:
            NotFiniteError: If the loss or the gradient norm is not finite; nothing was updated.
        """
        share, last = 1 / len(parts), len(parts) - 1
        losses = [self.backward(part, share=share, last=i == last) for i, part in enumerate(parts)]
        loss = self._processes.all_reduce_mean(torch.cat(losses).mean())
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self._config.optimizer.max_grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise NotFiniteError(f"the loss is {float(loss):.4g} and the gradient norm {float(norm):.4g}")
        set_learning_rate(self.optimizer, self.learning_rate(step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # before the EMA allocates temporaries of the same size
        self.ema.step(self.trained.values())
        return {"loss": float(loss), **self._by_timestep(parts, losses), "grad_norm": float(norm)}

    def backward(self, part: Batch, *, share: float, last: bool) -> Tensor:
        """Add the gradients of `share` times a part's mean loss; at the last part average over processes.

        Returns:
            The loss of each clip, (b,).
        """
        model = self._model
        alone = isinstance(model, DistributedDataParallel) and not last
        with model.no_sync() if alone else nullcontext():  # type: ignore[operator]
            noisy = self._objective.add_noise(part.latents, part.noise, part.timestep)
            with self._precision():
                prediction = model(noisy, part.timestep, part.text, return_dict=False)[0]
            target = self._objective.target(part.latents, part.noise, part.timestep)
            losses = self._objective.loss(prediction.to(target.dtype), target, part.timestep)
            (share * losses.mean()).backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def _by_timestep(self, parts: Sequence[Batch], losses: Sequence[Tensor]) -> dict[str, float]:
        """Return the mean loss in each range of timesteps, over the clips of all processes."""
        timesteps = self._objective.timesteps
        drawn = torch.cat([part.timestep for part in parts]).tolist()
        sums = torch.zeros(2, TIMESTEP_BINS, dtype=torch.float64)
        for timestep, loss in zip(drawn, torch.cat(list(losses)).tolist(), strict=True):
            sums[:, timestep_bin(timestep, timesteps)] += torch.tensor([loss, 1.0])
        totals, counts = self._processes.all_reduce_mean(sums.to(losses[0].device)).tolist()
        means = enumerate(zip(totals, counts, strict=True))
        return {f"loss/{bin_name(i, timesteps)}": total / count for i, (total, count) in means if count}

    def _precision(self) -> AbstractContextManager[Any]:
        """Return the autocast context of a training step's forward pass; the loss is always in float32."""
        if self._config.autocast is None:
            return nullcontext()
        kind = torch.device(self._config.device).type
        return torch.autocast(kind, dtype=getattr(torch, self._config.autocast))

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Put the EMA weights into the model within the block."""
        self.ema.store(self.trained.values())
        self.ema.copy_to(self.trained.values())
        try:
            yield
        finally:
            self.ema.restore(self.trained.values())

    def state_dict(self) -> OptimizationState:
        """Return weights, EMA and optimiser states, on the CPU."""
        tensors = tensors_of(self.trained, self.ema, self.optimizer)
        return OptimizationState(tensors, self.ema.optimization_step)

    def load_state_dict(self, state: OptimizationState, complaint: str) -> None:
        """Restore what `state_dict` returned.

        Raises:
            MobiusError: If the tensors do not fit, with `complaint` and their names.
        """
        load_tensors(state.tensors, self.trained, self.ema, self.optimizer, complaint)
        self.ema.optimization_step = state.ema_steps
