"""The plain training loop that fits the embedded base model's parts."""

from collections.abc import Callable, Iterable

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor, nn

from mobius_pipeline.base_model.config import FitConfig
from mobius_pipeline.runtime.progress import stage

_BETAS = (0.9, 0.99)  # a short memory of the squares: these trainings are a thousand steps or so


def fit(
    title: str,
    parameters: Iterable[nn.Parameter],
    loss_at: Callable[[int], Tensor],
    config: FitConfig,
    after_step: Callable[[], None] = lambda: None,
) -> list[float]:
    """Minimise `loss_at(step)` over `parameters` and return the loss of every step."""
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
