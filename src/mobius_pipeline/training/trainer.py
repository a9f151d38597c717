"""The training loop, the same for both modes."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mobius_pipeline.latents.store import Clip, LatentsStore
from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.progress import stage
from mobius_pipeline.runtime.signals import Terminated, noted_signal, signals_wait
from mobius_pipeline.training.batches import Batch, BatchSource, by_size
from mobius_pipeline.training.callbacks import Callbacks, History
from mobius_pipeline.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.draws import Batches
from mobius_pipeline.training.heldout import BUCKETS, HeldOutLoss, bucket_name, bucket_of, heldout_loss
from mobius_pipeline.training.loader import Loader
from mobius_pipeline.training.meters import StepTimer, count_flops, measure_step
from mobius_pipeline.training.optimizer import build_optimizer, set_learning_rate
from mobius_pipeline.training.previews import Preview
from mobius_pipeline.training.processes import ALONE, Processes
from mobius_pipeline.training.schedule import learning_rates
from mobius_pipeline.training.state import packed, unpack

log = logging.getLogger(__name__)

FIRST_MEASURED = 1  # the optimiser's states are there from the second step on


def moving_average(weights: Iterable[nn.Parameter], config: TrainConfig) -> EMAModel:
    """The exponential moving average of `weights`, its decay rising to `ema_decay` (diffusers' warm-ups)."""
    power = config.ema_warmup_power
    warmup = {} if power is None else {"use_ema_warmup": True, "power": power}
    return EMAModel(weights, decay=config.ema_decay, foreach=True, **warmup)


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
        callbacks: Callbacks,
        processes: Processes = ALONE,
        preview: Callable[[nn.Module], list[Preview]] | None = None,
    ) -> None:
        """Set a training up.

        Args:
            model: From `build_model`; what requires gradients is trained.
            store: The latents of the clips.
            objective: Schedule, target and weights.
            config: Steps, batch size, optimiser and so on.
            scaling: The VAE's scaling factor.
            folder: Where resume state lives; its name must tell configuration and data.
            callbacks: What to tell, and when; of the process that leads alone.
            processes: This process among those that train together.
            preview: Samples videos with the model, where the configuration asks for previews.

        Raises:
            MobiusError: If there are fewer training clips than a batch, or no held-out clips.
        """
        self.model = model.to(config.device).train()
        self.store, self.objective, self.config = store, objective, config
        self.folder, self.callbacks, self.processes, self.preview = folder, callbacks, processes, preview
        clips, self.heldout_clips = store.clips("train"), store.clips("heldout")
        self.buckets = by_size(clips, config.batch_size)
        if not self.buckets or not self.heldout_clips:
            raise MobiusError(
                f"{len(clips)} training and {len(self.heldout_clips)} held-out clips are too few for a "
                f"batch of {config.batch_size}. Add clips, or lower train.batch_size."
            )
        self.order = Batches(self.buckets, config.batch_size, config.seed)
        self.source = BatchSource(store, config.objective, objective.timesteps, scaling, config.seed)
        self.trained = trainable_parameters(self.model)
        self.optimizer = build_optimizer(
            self.trained.values(),
            state_bits=config.optimizer.state_bits,
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            weight_decay=config.optimizer.weight_decay,
        )
        self.learning_rate = learning_rates(config.optimizer, config.end, config.batch_size)
        self.ema = moving_average(self.trained.values(), config)
        self.history = History()
        self.loader = Loader(self._draw)
        self.timer = StepTimer(warmup=config.timer_warmup, device=torch.device(config.device))
        self.step = 0
        self._saved: int | None = None  # the step of the last checkpoint
        self._shown: int | None = None  # the step of the last preview
        self._whole: tuple[int, HeldOutLoss] | None = None  # the last loss over all clips, and its step
        self._together = processes.ddp(self.model)  # what is called in training

    def train(self) -> None:
        """Train to the last step, from the newest checkpoint if there is one."""
        self._resume()
        self._note_device()
        title, shown = f"train {self.folder.name}", self.processes.is_main_process
        with stage(title, self.config.end, "steps", done=self.step, shown=shown) as bar:
            if self.step == 0:
                self._count_flops()
            with self._saved_when_stopped(), self.loader.ahead():
                self._do_what_is_due()
                while self.step < self.config.end:
                    with signals_wait():
                        loss = self._timed_step()
                    bar.advance(note=f"loss {loss:.3f}")
                    self._do_what_is_due()
                    self._stop_together()

    def _note_device(self) -> None:
        devices, here = self.history.devices, self.config.device
        if devices and devices[-1] != here:
            log.warning(
                "Begun on %s, going on on %s: step times are of both, the peak memory is of %s.",
                devices[-1],
                here,
                devices[0],
            )
        if devices[-1:] != [here]:
            devices.append(here)

    def _count_flops(self) -> None:
        part = self.batch(self._measured_step)[0]
        flops = count_flops(lambda: self._backward(part, share=1.0, last=False))
        self.history.flops = flops * self.config.parts
        self.optimizer.zero_grad(set_to_none=True)

    def _do_what_is_due(self) -> None:
        """Evaluate and save after a step, or before the first, unless that was done before a break."""
        step, last = self.step, self.step == self.config.end
        compared = last or step == self.config.steps
        if (compared or step % self.config.evaluate_every == 0) and self._evaluated != step:
            self._evaluate()
        if step == self.config.steps and not last and self.at_steps is None:
            self.history.at_steps = {"step": step, **asdict(self.evaluate_all())}
        if self._preview_is_due():
            self._show()
        if step and (last or step % self.config.checkpoint_every == 0) and self._saved != step:
            self._save()

    def _preview_is_due(self) -> bool:
        previews, leads = self.config.previews, self.processes.is_main_process
        if previews is None or not leads or not self.step or self._shown == self.step:
            return False
        return self.step == self.config.end or self.step % previews.every == 0

    def _show(self) -> None:
        assert self.preview is not None
        with self.ema_weights():
            self.callbacks.preview(self.preview(self.model), self.step)
        self._shown = self.step

    @property
    def at_steps(self) -> dict[str, Any] | None:
        """The held-out loss over all clips at `train.steps`; None if it was not measured there."""
        found = self.history.at_steps
        return found if found and found["step"] == self.config.steps else None

    @property
    def _evaluated(self) -> int | None:
        return self.history.heldout[-1][0] if self.history.heldout else None

    def _stop_together(self) -> None:
        """Stop if any process was asked to, all after the same step: the others would wait for it."""
        if self.processes.count == 1:
            return  # its signals interrupt
        asked = torch.tensor(float(noted_signal() is not None), device=self.config.device)
        if self.processes.all_reduce_mean(asked) > 0:
            raise Terminated(143)

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
                self.config.end,
                self.folder,
            )
            raise

    def batch(self, step: int) -> list[Batch]:
        """This process's share of the batch of a step, in the parts that it is computed in."""
        return self._on_device(self._draw(step))

    def _draw(self, step: int) -> list[Batch]:
        clips = self.processes.shard(self.order.at(step))
        size = len(clips) // self.config.gradient_accumulation_steps
        return [self.source.batch(clips[start : start + size], step) for start in range(0, len(clips), size)]

    def _on_device(self, parts: Sequence[Batch]) -> list[Batch]:
        device, dtype = torch.device(self.config.device), next(iter(self.trained.values())).dtype
        return [part.to(device, dtype) for part in parts]

    def evaluate_all(self) -> HeldOutLoss:
        """The held-out loss over all clips, which may have been measured at this step already."""
        if self._whole is None or self._whole[0] != self.step:
            self._whole = self.step, self.evaluate(self.heldout_clips)
        return self._whole[1]

    def evaluate(self, clips: list[Clip]) -> HeldOutLoss:
        """The held-out loss over `clips`, with the EMA weights."""
        with self.ema_weights():
            return heldout_loss(
                self.model,
                self.store,
                clips,
                self.objective,
                points=self.config.evaluate_timesteps,
                scaling=self.source.scaling,
                batch_size=self.config.batch_size // self.config.parts,
                device=self.config.device,
                processes=self.processes,
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

    def _backward(self, part: Batch, *, share: float, last: bool) -> Tensor:
        """Add the gradients of `share` times a part's mean loss; with the last one, average all processes'.

        Returns each clip's loss, (b,).
        """
        together = self._together
        alone = isinstance(together, DistributedDataParallel) and not last
        with together.no_sync() if alone else nullcontext():  # type: ignore[operator]
            noisy = self.objective.add_noise(part.latents, part.noise, part.timestep)
            with self.precision():
                prediction = together(noisy, part.timestep, part.text, return_dict=False)[0]
            target = self.objective.target(part.latents, part.noise, part.timestep)
            losses = self.objective.loss(prediction.to(target.dtype), target, part.timestep)
            (share * losses.mean()).backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def train_step(self, parts: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step; returns the loss, also by timestep, and the gradient norm before clipping."""
        share, last = 1 / len(parts), len(parts) - 1
        losses = [self._backward(part, share=share, last=i == last) for i, part in enumerate(parts)]
        loss = self.processes.all_reduce_mean(torch.cat(losses).mean())
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.config.optimizer.max_grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise MobiusError(self._not_finite(float(loss), float(norm)))
        set_learning_rate(self.optimizer, self.learning_rate(self.step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # before the EMA makes temporaries of their size
        self.ema.step(self.trained.values())
        return {"loss": float(loss), **self._by_timestep(parts, losses), "grad_norm": float(norm)}

    def _by_timestep(self, parts: Sequence[Batch], losses: Sequence[Tensor]) -> dict[str, float]:
        """The mean loss of the clips of each range of timesteps, over all processes."""
        timesteps = self.objective.timesteps
        steps = torch.cat([part.timestep for part in parts]).tolist()
        sums = torch.zeros(2, BUCKETS, dtype=torch.float64)
        for step, loss in zip(steps, torch.cat(list(losses)).tolist(), strict=True):
            sums[:, bucket_of(step, timesteps)] += torch.tensor([loss, 1.0])
        totals, counts = self.processes.all_reduce_mean(sums.to(losses[0].device)).tolist()
        means = enumerate(zip(totals, counts, strict=True))
        return {f"loss/{bucket_name(i, timesteps)}": total / count for i, (total, count) in means if count}

    def _not_finite(self, loss: float, norm: float) -> str:
        clips = ", ".join(f"{clip.clip_id[:12]} ({clip.path})" for clip in self.order.at(self.step))
        last = (
            "there is no checkpoint yet" if self._saved is None else f"step {self._saved} is the last saved"
        )
        return (
            f"Step {self.step}: the loss is {loss:.4g} and the gradient norm {norm:.4g}. Nothing was "
            f"updated; {last} ({self.folder}). Lower train.optimizer.learning_rate, or look at the clips of "
            f"this step: {clips}."
        )

    def _timed_step(self) -> float:
        more = self.step + 1 < self.config.end
        parts = self._on_device(self.loader.take(self.step, more=more))
        if self.step == self._measured_step:
            measured = self._instrumented_step(parts)
        else:
            with self.timer:
                measured = self.train_step(parts)
        rate = self.learning_rate(self.step)
        self.step += 1
        self.history.loss.append((self.step, measured["loss"], self.timer.total_s))
        self.callbacks.metrics({**measured, "learning_rate": rate}, self.step)
        return measured["loss"]

    def _instrumented_step(self, parts: Sequence[Batch]) -> dict[str, float]:
        """A step under the memory meter; it trains as any other, and is not timed."""
        results: list[dict[str, float]] = []
        memory = measure_step(
            lambda: results.append(self.train_step(parts)),
            weights=[*self.model.parameters(), *self.ema.shadow_params],
            optimizer=self.optimizer,
            inputs=[tensor for part in parts for tensor in part.tensors],
        )
        self.history.memory = asdict(memory)
        return results[0]

    @cached_property
    def _measured_step(self) -> int:
        """The step whose memory and FLOPs are measured: the first that takes the largest clips."""
        largest = max(bucket[0].size.volume for bucket in self.buckets)
        steps = range(FIRST_MEASURED, self.config.end)
        return next((step for step in steps if self.order.at(step)[0].size.volume == largest), FIRST_MEASURED)

    def _evaluate(self) -> None:
        watched = self.heldout_clips[: self.config.evaluate_clips]
        result = self.evaluate_all() if watched == self.heldout_clips else self.evaluate(watched)
        self.history.heldout.append((self.step, result.loss, self.timer.total_s))
        self.history.watched.append((self.step, result.by_clip))
        parts = {f"heldout_loss/{name}": value for name, value in result.by_timestep.items()}
        self.callbacks.metrics({"heldout_loss": result.loss, **parts}, self.step)

    def _save(self) -> None:
        if self.processes.is_main_process:
            self.history.seconds, self.history.waited = self.timer.seconds, self.loader.waited
            meta = {
                "history": asdict(self.history),
                "ema_steps": self.ema.optimization_step,
                "processes": self.processes.count,
            }
            checkpoint = Checkpoint(self.step, packed(self.trained, self.ema, self.optimizer), meta)
            last, every = self.config.keep_last, self.config.keep_every
            with signals_wait():
                path = save_checkpoint(self.folder, checkpoint, keep_last=last, keep_every=every)
                self._saved = self.step
            self.callbacks.checkpoint(path, self.step, {"heldout_loss": self.history.heldout[-1][1]})
        self._saved = self.step

    def _resume(self) -> None:
        checkpoint = newest_checkpoint(self.folder)
        found = self.processes.gather(checkpoint.step if checkpoint else None)
        if len(set(found)) > 1:
            raise MobiusError(
                f"The processes find different checkpoints in {self.folder} (of steps {found}). Put it on a "
                "file system that all machines share."
            )
        if checkpoint is None:
            return
        log.info("Going on from step %d of %d (%s).", checkpoint.step, self.config.end, self.folder)
        if (before := checkpoint.meta["processes"]) != self.processes.count:
            log.warning(
                "%d processes saved it and %d go on: the same draws, their sums rounded otherwise.",
                before,
                self.processes.count,
            )
        unpack(checkpoint.tensors, self.trained, self.ema, self.optimizer)
        self.ema.optimization_step = checkpoint.meta["ema_steps"]
        self.history = History(**checkpoint.meta["history"])
        self.timer.seconds, self.loader.waited = self.history.seconds, self.history.waited
        self.step = self._saved = self._shown = checkpoint.step
