"""The held-out loss: held-out clips on a fixed grid of timesteps with fixed noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import cast

import torch
from torch import Tensor, nn

from mobius_pipeline.latents.store import Clip, LatentsStore, of_one_size
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.rng import generator
from mobius_pipeline.training.processes import ALONE, Processes

BUCKETS = 4


@dataclass(frozen=True)
class HeldOutLoss:
    """Mean squared error of the prediction, unweighted.

    Attributes:
        loss: The mean over clips and timesteps.
        by_timestep: The mean over ranges of timesteps.
        by_clip: The mean over the grid of each clip, by `clip_id`.
    """

    loss: float
    by_timestep: dict[str, float]
    by_clip: dict[str, float]


def bucket_of(timestep: int, timesteps: int) -> int:
    """Which of `BUCKETS` equal ranges of timesteps one is in; the last takes the remainder."""
    return min(timestep // (timesteps // BUCKETS), BUCKETS - 1)


def bucket_name(bucket: int, timesteps: int) -> str:
    """First and last timestep of a range, as metrics are named by them."""
    width = timesteps // BUCKETS
    return f"{bucket * width}-{(bucket + 1) * width - 1}"


def timestep_grid(timesteps: int, points: int) -> list[int]:
    """`points` timesteps in the middle of as many equal ranges."""
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
    """Measure a model, called as `UNet3DConditionModel`, on `clips`.

    Args:
        model: The model, with the weights to be judged (the EMA's).
        store: Where the clips' latents are; the posterior's mean is used.
        clips: The held-out clips.
        objective: Schedule and target.
        points: Points of the timestep grid.
        scaling: The VAE's scaling factor.
        batch_size: Clips a forward pass.
        device: Where to compute.
        processes: Those that share the work; each returns the whole.
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
        by_timestep=_buckets(dict(zip(grid, by_step, strict=True)), objective.timesteps),
        by_clip=dict(zip((clip.clip_id for clip in clips), table.mean(1).tolist(), strict=True)),
    )


def _batches(clips: Sequence[Clip], grid: Sequence[int], batch_size: int) -> list[list[tuple[Clip, int]]]:
    """Every clip at every timestep, those of one size together."""
    batches = []
    for same in of_one_size(clips):
        pairs = [(clip, timestep) for clip in same for timestep in grid]
        batches += [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]
    return batches


def _in_turn(shares: list[list[list[float]]]) -> list[float]:
    """The losses of all batches in order, from each process's, which took every `len(shares)`th batch."""
    turns = zip_longest(*shares, fillvalue=[])
    return [loss for turn in turns for batch in turn for loss in batch]


def _fixed_noise(clip: Clip, timestep: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=generator("held-out", timestep, clip.clip_id))


def _buckets(by_step: dict[int, float], timesteps: int) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for step, value in by_step.items():
        groups.setdefault(bucket_name(bucket_of(step, timesteps), timesteps), []).append(value)
    return {name: sum(values) / len(values) for name, values in groups.items()}
