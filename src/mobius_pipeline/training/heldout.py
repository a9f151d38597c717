"""Held-out loss: held-out clips on a fixed grid of timesteps with fixed noise."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor, nn

from mobius_pipeline.ingest.split import HELDOUT
from mobius_pipeline.latents.store import Clip, LatentsStore, of_one_size
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.rng import generator
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.metrics import HeldOutLoss, LossAtStep
from mobius_pipeline.training.processes import ALONE, Processes

TIMESTEP_BINS = 4


def timestep_bin(timestep: int, timesteps: int) -> int:
    """Return which of `TIMESTEP_BINS` equal ranges a timestep is in; the last one takes the remainder."""
    return min(timestep // (timesteps // TIMESTEP_BINS), TIMESTEP_BINS - 1)


def bin_name(index: int, timesteps: int) -> str:
    """Return the name of a range of timesteps in metrics: its first and last timestep."""
    width = timesteps // TIMESTEP_BINS
    return f"{index * width}-{(index + 1) * width - 1}"


def timestep_grid(timesteps: int, points: int) -> list[int]:
    """Return the midpoints of `points` equal ranges of timesteps."""
    return [int((k + 0.5) * timesteps / points) for k in range(points)]


@torch.no_grad()
def heldout_loss(
    model: nn.Module,
    store: LatentsStore,
    clips: Sequence[Clip],
    objective: Objective,
    *,
    points: int,
    scaling: float,
    batch_size: int,
    device: str,
    processes: Processes = ALONE,
) -> HeldOutLoss:
    """Measure the held-out loss of a model that is called like `UNet3DConditionModel`.

    Args:
        model: The model, with the weights to evaluate (the EMA weights).
        store: The latents store; the posterior's mean is used.
        clips: The held-out clips.
        objective: Schedule and target.
        points: Number of points of the timestep grid.
        scaling: The VAE's scaling factor.
        batch_size: Pairs of clip and timestep per forward pass.
        device: Device to compute on.
        processes: Processes that share the work; each returns the loss over all clips.
    """
    grid = timestep_grid(objective.timesteps, points)
    batches = _batches(clips, grid, batch_size)
    losses, dtype = [], cast(torch.dtype, model.dtype)
    for batch in batches[processes.rank :: processes.count]:
        latents = torch.stack([store.moments(clip)[0] * scaling for clip, _ in batch]).to(device, dtype)
        noise = torch.stack([_fixed_noise(clip, step, latents.shape[1:]) for clip, step in batch])
        noise = noise.to(device, dtype)
        text = torch.stack([store.text(clip) for clip, _ in batch]).to(device, dtype)
        timestep = torch.tensor([step for _, step in batch], device=device)
        noisy = objective.add_noise(latents, noise, timestep)
        prediction = model(noisy, timestep, text, return_dict=False)[0]
        error = prediction - objective.target(latents, noise, timestep)
        losses.append(error.square().flatten(1).mean(1).tolist())
    pairs = [pair for batch in batches for pair in batch]
    found = dict(zip(pairs, _in_turn(processes.gather(losses)), strict=True))
    table = torch.tensor([[found[clip, step] for step in grid] for clip in clips], dtype=torch.float64)
    by_step = table.mean(0).tolist()
    return HeldOutLoss(
        loss=sum(by_step) / points,
        by_timestep=_by_bin(dict(zip(grid, by_step, strict=True)), objective.timesteps),
        by_clip=dict(zip((clip.clip_id for clip in clips), table.mean(1).tolist(), strict=True)),
    )


class HeldOutEvaluator:
    """Held-out losses of a training: of watched clips at intervals, of all clips where modes are compared.

    Attributes:
        clips: All held-out clips.
        losses: Rows of (step, loss, seconds of training so far), over the watched clips.
        by_clip: Rows of (step, loss by `clip_id`), over the watched clips.
        at_steps: The loss over all clips at the step `train.steps`, if the training continues.
    """

    def __init__(
        self,
        store: LatentsStore,
        objective: Objective,
        config: TrainConfig,
        scaling: float,
        processes: Processes,
    ) -> None:
        """Evaluate as `config` specifies, together with the other processes."""
        self.clips = store.clips(HELDOUT)
        self.losses: list[tuple[int, float, float]] = []
        self.by_clip: list[tuple[int, dict[str, float]]] = []
        self.at_steps: LossAtStep | None = None
        self._config, self._watched = config, self.clips[: config.evaluate_clips]
        self._measured: tuple[int, HeldOutLoss] | None = None  # step and loss of the last evaluation
        self.measure = partial(
            heldout_loss,
            store=store,
            objective=objective,
            points=config.evaluate_timesteps,
            scaling=scaling,
            batch_size=config.batch_size // config.parts,
            device=config.device,
            processes=processes,
        )

    def due(self, step: int) -> bool:
        """Return whether to evaluate the watched clips after a step: it is due and not done yet."""
        config, evaluated = self._config, self.losses[-1][0] if self.losses else None
        compared = step in (config.end, config.steps)
        return (compared or step % config.evaluate_every == 0) and evaluated != step

    def all_clips_due(self, step: int) -> bool:
        """Return whether to evaluate all clips after a step, where modes are compared before the end."""
        return step == self._config.steps != self._config.end and self._at_steps_of_config() is None

    def evaluate(self, model: nn.Module, step: int, training_s: float) -> HeldOutLoss:
        """Evaluate the watched clips after a step, at `training_s` seconds of training."""
        every = self._watched == self.clips
        result = self.all_clips(model, step) if every else self.measure(model, clips=self._watched)
        self.losses.append((step, result.loss, training_s))
        self.by_clip.append((step, result.by_clip))
        return result

    def all_clips(self, model: nn.Module, step: int) -> HeldOutLoss:
        """Return the loss over all clips, measured once per step."""
        if self._measured is None or self._measured[0] != step:
            self._measured = step, self.measure(model, clips=self.clips)
        return self._measured[1]

    def evaluate_at_steps(self, model: nn.Module, step: int) -> None:
        """Record the loss over all clips at `train.steps`."""
        self.at_steps = LossAtStep(step=step, **dict(self.all_clips(model, step)))

    def _at_steps_of_config(self) -> LossAtStep | None:
        found = self.at_steps
        return found if found and found.step == self._config.steps else None

    def state_dict(self) -> dict[str, Any]:
        """Return the losses under their names in `History`."""
        return {"heldout": self.losses, "watched": self.by_clip, "at_steps": self.at_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.losses, self.by_clip = list(state["heldout"]), list(state["watched"])
        self.at_steps = state["at_steps"]
        self.at_steps = self._at_steps_of_config()


def _batches(clips: Sequence[Clip], grid: Sequence[int], batch_size: int) -> list[list[tuple[Clip, int]]]:
    """Batch the pairs of clip and timestep; a batch has clips of one size."""
    batches = []
    for same in of_one_size(clips):
        pairs = [(clip, timestep) for clip in same for timestep in grid]
        batches += [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]
    return batches


def _in_turn(shares: list[list[list[float]]]) -> list[float]:
    """Return the losses of all batches in order; process i has every `len(shares)`th batch from the i-th."""
    turns = zip_longest(*shares, fillvalue=[])
    return [loss for turn in turns for batch in turn for loss in batch]


def _fixed_noise(clip: Clip, timestep: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=generator("held-out", timestep, clip.clip_id))


def _by_bin(by_step: dict[int, float], timesteps: int) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for step, value in by_step.items():
        groups.setdefault(bin_name(timestep_bin(step, timesteps), timesteps), []).append(value)
    return {name: sum(values) / len(values) for name, values in groups.items()}
