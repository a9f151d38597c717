"""The objective against values computed by hand."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.errors import MobiusError


def objective(
    prediction_type: str, *, gamma: float | None = None, zero_terminal_snr: bool = False
) -> Objective:
    """Two timesteps, signal levels 0.8 and 0.8 * 0.25 = 0.2."""
    scheduler = DDPMScheduler(
        num_train_timesteps=2, trained_betas=[0.2, 0.75], prediction_type=prediction_type
    )
    return Objective(scheduler, min_snr_gamma=gamma, zero_terminal_snr=zero_terminal_snr)


def clip(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1, 1), float(value))


FIRST, LAST = torch.tensor([0]), torch.tensor([1])


def test_noise_is_mixed_in_by_level() -> None:
    expected = math.sqrt(0.2) * 3 + math.sqrt(0.8) * 5
    assert objective("epsilon").add_noise(clip(3), clip(5), LAST).item() == pytest.approx(expected)


def test_targets() -> None:
    assert objective("epsilon").target(clip(3), clip(5), LAST).item() == 5
    velocity = math.sqrt(0.2) * 5 - math.sqrt(0.8) * 3
    assert objective("v_prediction").target(clip(3), clip(5), LAST).item() == pytest.approx(velocity)


@pytest.mark.parametrize(
    ("prediction_type", "timestep", "weight"),
    # SNR is 0.8 / 0.2 = 4 at the first step and 0.2 / 0.8 = 0.25 at the last; gamma is 2.
    [
        ("epsilon", FIRST, 0.5),
        ("epsilon", LAST, 1.0),
        ("v_prediction", FIRST, 2 / 5),
        ("v_prediction", LAST, 0.2),
    ],
)
def test_min_snr_weights(prediction_type: str, timestep: torch.Tensor, weight: float) -> None:
    weighted = objective(prediction_type, gamma=2.0)
    assert weighted.weight(timestep).item() == pytest.approx(weight)
    assert weighted.loss(clip(1), clip(4), timestep).item() == pytest.approx(9 * weight)
    assert objective(prediction_type).loss(clip(1), clip(4), timestep).item() == 9


def test_zero_terminal_snr_leaves_no_signal() -> None:
    rescaled = objective("v_prediction", zero_terminal_snr=True)
    assert rescaled.alphas_cumprod[-1].item() == 0
    assert rescaled.add_noise(clip(3), clip(5), LAST).item() == 5
    assert rescaled.target(clip(3), clip(5), LAST).item() == -3


def test_refuses_what_is_not_defined() -> None:
    with pytest.raises(MobiusError, match="zero_terminal_snr"):
        objective("epsilon", zero_terminal_snr=True)
    with pytest.raises(MobiusError, match="sample"):
        objective("sample")
