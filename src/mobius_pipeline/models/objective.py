"""The denoising objective, independent of the network: noisy latents, target and loss weight."""

import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from torch import Tensor

from mobius_pipeline.runtime.errors import MobiusError


class Objective:
    """Epsilon- or v-prediction over a discrete noise schedule, with min-SNR-gamma weights.

    Shapes: `B` clips, (B, C, F, h, w) latents.
    """

    def __init__(
        self, scheduler: DDPMScheduler, *, min_snr_gamma: float | None, zero_terminal_snr: bool
    ) -> None:
        """Read schedule and prediction type from the base model's scheduler.

        Args:
            scheduler: The base model's scheduler.
            min_snr_gamma: Upper limit of the SNR in the loss weight (Hang et al. 2023, eq. 7); None: no
                weights.
            zero_terminal_snr: Rescale the schedule to end in pure noise (Lin et al. 2024, alg. 1).

        Raises:
            MobiusError: If the prediction type or the combination of options is not supported.
        """
        self.prediction_type = scheduler.config.prediction_type
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise MobiusError(
                f"The base model's scheduler_config.json has prediction_type {self.prediction_type!r}; "
                "supported are epsilon and v_prediction."
            )
        if zero_terminal_snr and self.prediction_type == "epsilon":
            raise MobiusError(
                "train.objective.zero_terminal_snr needs a v-prediction base: without any signal, "
                "epsilon is the input itself. Set it to false, or use another base model."
            )
        betas = rescale_zero_terminal_snr(scheduler.betas) if zero_terminal_snr else scheduler.betas
        self.alphas_cumprod: Tensor = torch.cumprod(1 - betas, dim=0)
        self._gamma = min_snr_gamma

    @property
    def timesteps(self) -> int:
        """Length of the noise schedule."""
        return len(self.alphas_cumprod)

    def add_noise(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Return x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps (Ho et al. 2020, eq. 4)."""
        signal, sigma = self._levels(timestep)
        return signal * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Return the target: eps, or v = sqrt(a_t) eps - sqrt(1 - a_t) x_0 (Salimans and Ho 2022)."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self._levels(timestep)
        return signal * noise - sigma * latents

    def weight(self, timestep: Tensor) -> Tensor:
        """Return loss weights, (B,): min(SNR, gamma) divided by SNR for epsilon, by SNR + 1 for v."""
        if self._gamma is None:
            return torch.ones(timestep.shape, device=timestep.device)
        alpha = self.alphas_cumprod.to(timestep.device)[timestep]
        snr = alpha / (1 - alpha)
        clipped = snr.clamp(max=self._gamma)
        return clipped / snr if self.prediction_type == "epsilon" else clipped / (snr + 1)

    def loss(self, prediction: Tensor, target: Tensor, timestep: Tensor) -> Tensor:
        """Return the weighted mean squared error of each clip, (B,)."""
        return self.weight(timestep) * (prediction - target).square().flatten(1).mean(1)

    def _levels(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas_cumprod.to(timestep.device)[timestep].view(-1, 1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()
