"""The training loop, the same for both modes."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.latents.store import Clip, LatentsStore
from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.progress import stage
from mobius_pipeline.signals import Terminated, signals_wait
from mobius_pipeline.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.draws import batch_at, draw
from mobius_pipeline.training.heldout import HeldOutLoss, heldout_loss
from mobius_pipeline.training.meters import StepTimer, count_flops, measure_step
from mobius_pipeline.training.objective import Objective
from mobius_pipeline.training.optimizer import (
    build_optimizer,
    restored_state,
    set_learning_rate,
    state_tensors,
)
from mobius_pipeline.training.schedule import learning_rate

log = logging.getLogger(__name__)

INSTRUMENTED_STEP = 1  # the optimiser's states are there from the second step on


@dataclass
class Batch:
    """What the model sees of a step: latents and noise (B, C, F, h, w), timestep (B,), text (B, L, D)."""

    latents: Tensor
    noise: Tensor
    timestep: Tensor
    text: Tensor


@dataclass
class History:
    """What happened: rows of (step, value, seconds of training so far), and what the meters read."""

    loss: list[tuple[int, float, float]] = field(default_factory=list)
    heldout: list[tuple[int, float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    flops: float = 0.0


@dataclass(frozen=True)
class Listener:
    """Where a training reports to; a listener that does nothing is a valid one."""

    metrics: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    checkpoint: Callable[[Path, int, dict[str, float]], None] = lambda path, step, metrics: None


class Trainer:
    """A model in training, and everything that a checkpoint must hold of it."""

    def __init__(
        self,
        model: nn.Module,
        store: LatentsStore,
        objective: Objective,
        config: TrainConfig,
        *,
        scaling: float,
        folder: Path,
        listener: Listener,
    ) -> None:
        """Set a training up.

        Args:
            model: From `build_model`; what requires gradients is trained.
            store: The latents of the clips.
            objective: Schedule, target and weights.
            config: Steps, batch size, optimiser and so on.
            scaling: The VAE's scaling factor.
            folder: Where resume state lives; its name must tell configuration and data.
            listener: What to tell, and when.

        Raises:
            MobiusError: If there are fewer training clips than a batch, or no held-out clips.
        """
        self.model = model.to(config.device).train()
        self.store, self.objective, self.config = store, objective, config
        self.scaling, self.folder, self.listener = scaling, folder, listener
        self.clips, self.heldout_clips = store.clips("train"), store.clips("heldout")
        if len(self.clips) < config.batch_size or not self.heldout_clips:
            raise MobiusError(
                f"{len(self.clips)} training and {len(self.heldout_clips)} held-out clips are too few for a "
                f"batch of {config.batch_size}. Add clips, or lower train.batch_size."
            )
        self.trained = trainable_parameters(self.model)
        self.optimizer = build_optimizer(
            self.trained.values(),
            state_bits=config.optimizer.state_bits,
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            weight_decay=config.optimizer.weight_decay,
        )
        self.ema = EMAModel(self.trained.values(), decay=config.ema_decay, foreach=True)
        self.history = History()
        self.timer = StepTimer(warmup=config.timer_warmup, device=torch.device(config.device))
        self.step = 0
        self._saved: int | None = None  # the step of the last checkpoint

    def train(self) -> None:
        """Train to the last step, from the newest checkpoint if there is one."""
        self._resume()
        with stage(f"train {self.folder.name}", self.config.steps, "steps", done=self.step) as bar:
            if self.step == 0:
                self.history.flops = count_flops(partial(self._backward, self.batch(0)))
                self.optimizer.zero_grad(set_to_none=True)
            with self._saved_when_stopped():
                self._do_what_is_due()
                while self.step < self.config.steps:
                    with signals_wait():
                        loss = self._timed_step()
                    bar.advance(note=f"loss {loss:.3f}")
                    self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        """Evaluate and save after a step, or before the first, unless that was done before a break."""
        step, last = self.step, self.step == self.config.steps
        if (last or step % self.config.evaluate_every == 0) and self._evaluated != step:
            self._evaluate()
        if step and (last or step % self.config.checkpoint_every == 0) and self._saved != step:
            self._save()

    @property
    def _evaluated(self) -> int | None:
        return self.history.heldout[-1][0] if self.history.heldout else None

    @contextmanager
    def _saved_when_stopped(self) -> Iterator[None]:
        """On Ctrl-C or SIGTERM save the last whole step and say how to go on."""
        try:
            yield
        except (KeyboardInterrupt, Terminated):
            if self.step and self._saved != self.step:
                self._save()
            log.warning(
                "Stopped at step %d of %d. The same command goes on from there (%s).",
                self.step,
                self.config.steps,
                self.folder,
            )
            raise

    def batch(self, step: int) -> Batch:
        """Draw the batch of a step."""
        config = self.config
        drawn = [
            self._draw_clip(clip, step) for clip in batch_at(step, self.clips, config.batch_size, config.seed)
        ]
        latents, noise, timestep, text = zip(*drawn, strict=True)
        return Batch(
            latents=torch.stack(latents).to(config.device),
            noise=torch.stack(noise).to(config.device),
            timestep=torch.tensor(timestep, device=config.device),
            text=torch.stack(text).to(config.device),
        )

    def evaluate(self, clips: list[Clip]) -> HeldOutLoss:
        """The held-out loss over `clips`, with the EMA weights."""
        with self.ema_weights():
            return heldout_loss(
                self.model,
                self.store,
                clips,
                self.objective,
                points=self.config.evaluate_timesteps,
                scaling=self.scaling,
                batch_size=self.config.batch_size,
                device=self.config.device,
            )

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Put the EMA weights into the model for the block's duration."""
        self.ema.store(self.trained.values())
        self.ema.copy_to(self.trained.values())
        try:
            yield
        finally:
            self.ema.restore(self.trained.values())

    def precision(self) -> AbstractContextManager[Any]:
        """What the model's forward pass of a training step runs under; the loss is always in float32."""
        if self.config.autocast is None:
            return nullcontext()
        kind = torch.device(self.config.device).type
        return torch.autocast(kind, dtype=getattr(torch, self.config.autocast))

    def _draw_clip(self, clip: Clip, step: int) -> tuple[Tensor, Tensor, int, Tensor]:
        mean, logvar = self.store.moments(clip)
        objective = self.config.objective
        drawn = draw(
            self.config.seed,
            step,
            clip.clip_id,
            mean.shape,
            self.objective.timesteps,
            objective.caption_dropout,
        )
        latents = (mean + torch.exp(0.5 * logvar) * drawn.posterior) * self.scaling
        noise = drawn.noise + objective.noise_offset * drawn.offset
        return (
            latents,
            noise,
            drawn.timestep,
            self.store.no_text if drawn.drop_caption else self.store.text(clip),
        )

    def _backward(self, batch: Batch) -> Tensor:
        noisy = self.objective.add_noise(batch.latents, batch.noise, batch.timestep)
        with self.precision():
            prediction = self.model(noisy, batch.timestep, batch.text, return_dict=False)[0].float()
        target = self.objective.target(batch.latents, batch.noise, batch.timestep)
        loss = self.objective.loss(prediction, target, batch.timestep).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def update(self, batch: Batch) -> tuple[float, float]:
        """One optimiser step; returns loss and gradient norm (before clipping)."""
        loss = self._backward(batch)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.config.optimizer.max_grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise MobiusError(self._not_finite(float(loss), float(norm)))
        set_learning_rate(self.optimizer, self._learning_rate())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # before the EMA makes temporaries of their size
        self.ema.step(self.trained.values())
        return float(loss), float(norm)

    def _not_finite(self, loss: float, norm: float) -> str:
        clips = ", ".join(f"{clip.clip_id[:12]} ({clip.path})" for clip in self._clips_of(self.step))
        last = (
            "there is no checkpoint yet" if self._saved is None else f"step {self._saved} is the last saved"
        )
        return (
            f"Step {self.step}: the loss is {loss:.4g} and the gradient norm {norm:.4g}. Nothing was "
            f"updated; {last} ({self.folder}). Lower train.optimizer.learning_rate, or look at the clips of "
            f"this step: {clips}."
        )

    def _timed_step(self) -> float:
        batch = self.batch(self.step)
        if self.step == INSTRUMENTED_STEP:
            loss, norm = self._instrumented_step(batch)
        else:
            with self.timer:
                loss, norm = self.update(batch)
        rate = self._learning_rate()
        self.step += 1
        self.history.loss.append((self.step, loss, self.timer.total_s))
        self.listener.metrics({"loss": loss, "grad_norm": norm, "learning_rate": rate}, self.step)
        return loss

    def _instrumented_step(self, batch: Batch) -> tuple[float, float]:
        """A step under the memory meter; it trains as any other, and is not timed."""
        result: list[tuple[float, float]] = []
        memory = measure_step(
            lambda: result.append(self.update(batch)),
            weights=[*self.model.parameters(), *self.ema.shadow_params],
            optimizer=self.optimizer,
            inputs=[batch.latents, batch.noise, batch.timestep, batch.text],
        )
        self.history.memory = asdict(memory)
        return result[0]

    def _learning_rate(self) -> float:
        return learning_rate(self.config.optimizer, self.step, self.config.steps)

    def _clips_of(self, step: int) -> list[Clip]:
        return batch_at(step, self.clips, self.config.batch_size, self.config.seed)

    def _evaluate(self) -> None:
        result = self.evaluate(self.heldout_clips[: self.config.evaluate_clips])
        self.history.heldout.append((self.step, result.loss, self.timer.total_s))
        self.listener.metrics({"heldout_loss": result.loss}, self.step)

    def _save(self) -> None:
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.trained.items()}
        for (name, parameter), shadow in zip(self.trained.items(), self.ema.shadow_params, strict=True):
            tensors[f"ema.{name}"] = shadow
            for key, value in state_tensors(self.optimizer.state[parameter]).items():
                tensors[f"optimizer.{name}.{key}"] = value
        self.history.seconds = self.timer.seconds
        checkpoint = Checkpoint(
            self.step,
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            {"history": asdict(self.history), "ema_steps": self.ema.optimization_step},
        )
        config = self.config
        with signals_wait():
            path = save_checkpoint(
                self.folder, checkpoint, keep_last=config.keep_last, keep_every=config.keep_every
            )
            self._saved = self.step
        self.listener.checkpoint(path, self.step, {"heldout_loss": self.history.heldout[-1][1]})

    def _resume(self) -> None:
        checkpoint = newest_checkpoint(self.folder)
        if checkpoint is None:
            return
        log.info("Going on from step %d of %d (%s).", checkpoint.step, self.config.steps, self.folder)
        with torch.no_grad():
            for (name, parameter), shadow in zip(self.trained.items(), self.ema.shadow_params, strict=True):
                parameter.copy_(checkpoint.tensors[f"model.{name}"])
                shadow.copy_(checkpoint.tensors[f"ema.{name}"])
                prefix = f"optimizer.{name}."
                plain = {
                    key.removeprefix(prefix): value
                    for key, value in checkpoint.tensors.items()
                    if key.startswith(prefix)
                }
                self.optimizer.state[parameter] = restored_state(plain, parameter)
        self.ema.optimization_step = checkpoint.meta["ema_steps"]
        self.history = History(**checkpoint.meta["history"])
        self.timer.seconds = self.history.seconds
        self.step = self._saved = checkpoint.step
