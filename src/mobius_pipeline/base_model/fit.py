"""The plain training loop for the parts of the small base model."""

from collections.abc import Callable, Iterable

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor, nn

from mobius_pipeline.base_model.config import FitConfig
from mobius_pipeline.runtime.progress import stage

_BETAS = (0.9, 0.99)  # averages over few steps: these trainings take about a thousand


def fit(
    title: str,
    parameters: Iterable[nn.Parameter],
    loss_at: Callable[[int], Tensor],
    config: FitConfig,
    after_step: Callable[[], None] = lambda: None,
) -> list[float]:
    """Minimise `loss_at(step)` over `parameters` and return the loss of every step.

    Args:
        title: Name of the progress bar.
        parameters: The parameters to train.
        loss_at: Returns the scalar loss of a step, from 0.
        config: Steps and learning rate.
        after_step: Called after each update.
    """
    weights = list(parameters)
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, betas=_BETAS, weight_decay=1e-4, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    losses = []
    with stage(title, config.steps, "steps") as bar:
        for step in range(config.steps):
            loss = loss_at(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            after_step()
            losses.append(loss.item())
            bar.advance(note=f"loss {losses[-1]:.3f}")
    return losses
