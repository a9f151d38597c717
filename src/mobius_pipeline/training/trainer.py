"""The training loop, the same for both modes."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from mobius_pipeline.ingest.split import TRAIN
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.progress import stage
from mobius_pipeline.runtime.signals import Terminated, noted_signal, signals_wait
from mobius_pipeline.training.batches import Batch, BatchSource, by_size
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.checkpoints import Checkpoint, Checkpointer, Progress
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.draws import Batches
from mobius_pipeline.training.heldout import HeldOutEvaluator
from mobius_pipeline.training.history import History
from mobius_pipeline.training.loader import Loader
from mobius_pipeline.training.metrics import HeldOutLoss
from mobius_pipeline.training.optimization import NotFiniteError, Optimization, OptimizationState
from mobius_pipeline.training.previews import Preview, Previewer
from mobius_pipeline.training.processes import ALONE, Processes
from mobius_pipeline.training.recorder import Recorder
from mobius_pipeline.training.step_meter import StepMeter

log = logging.getLogger(__name__)

FIRST_MEASURED = 1  # the optimiser's states exist from the second step on


class _Part(Protocol):
    """A part of the trainer that keeps a part of its history, under the names in `History`."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Trainer:
    """A model in training, with everything that a checkpoint must hold."""

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
        """Set up a training.

        Args:
            model: From `build_model`; parameters that require gradients are trained.
            store: The latents of the clips.
            objective: Schedule, target and weights.
            config: Steps, batch size, optimiser and so on.
            scaling: The VAE's scaling factor.
            folder: State folder; its name must identify configuration and data.
            callbacks: Called with metrics, previews and checkpoints, in the main process.
            processes: Rank of this process, and number of processes.
            preview: Samples videos with the model, if the configuration has previews.

        Raises:
            MobiusError: If there are fewer training clips than a batch, or no held-out clips.
        """
        self.model = model.to(config.device).train()
        self.store, self.objective, self.config = store, objective, config
        self.folder, self.callbacks, self.processes = folder, callbacks, processes
        clips = store.clips(TRAIN)
        self.evaluator = HeldOutEvaluator(store, objective, config, scaling, processes)
        self.buckets = by_size(clips, config.batch_size)
        if not self.buckets or not self.evaluator.clips:
            raise _too_few(len(clips), len(self.evaluator.clips), config.batch_size)
        self.order = Batches(self.buckets, config.batch_size, config.seed)
        self.source = BatchSource(store, config.objective, objective.timesteps, scaling, config.seed)
        self.optimization = Optimization(self.model, objective, config, processes)
        self.loader = Loader(self._draw)
        self._measured_step = self._first_of_the_largest()
        self.meter = StepMeter(
            device=config.device, warmup=config.timer_warmup, measured_step=self._measured_step
        )
        self.checkpointer = Checkpointer(folder, config, processes)
        self.previewer = self._previewer(preview) if processes.is_main_process else None
        self.recorder = Recorder(callbacks.metrics)
        self.step = 0

    def _previewer(self, sample: Callable[[nn.Module], list[Preview]] | None) -> Previewer | None:
        previews = self.config.previews
        if sample is None or previews is None:
            return None
        return Previewer(sample, self.callbacks.preview, previews.every, self.config.end)

    def train(self) -> None:
        """Train to the last step, starting from the newest checkpoint if there is one."""
        self._resume()
        self.meter.begin()
        title, shown = f"train {self.folder.name}", self.processes.is_main_process
        with stage(title, self.config.end, "steps", done=self.step, shown=shown) as bar:
            if self.step == 0:
                self._count_flops()
            with self._saved_when_stopped(), self.loader.ahead():
                self._run_scheduled()
                while self.step < self.config.end:
                    with signals_wait():
                        loss = self._timed_step()
                    bar.advance(note=f"loss {loss:.3f}")
                    self._run_scheduled()
                    self._stop_together()

    def _count_flops(self) -> None:
        part = self.batch(self._measured_step)[0]
        backward = self.optimization.backward
        self.meter.count(lambda: backward(part, share=1.0, last=False), self.config.parts)
        self.optimization.optimizer.zero_grad(set_to_none=True)

    def _run_scheduled(self) -> None:
        """Evaluate, sample and save after the current step, or before the first one, if it is due."""
        step = self.step
        if self.evaluator.due(step):
            self._evaluate()
        if self.evaluator.all_clips_due(step):
            with self.optimization.ema_weights():
                self.evaluator.evaluate_at_steps(self.model, step)
        if self.previewer and self.previewer.due(step):
            with self.optimization.ema_weights():
                self.previewer.show(self.model, step)
        if self.checkpointer.due(step):
            self._save()

    def _stop_together(self) -> None:
        """Stop all processes after the same step if one was asked to: the others would wait for it."""
        if self.processes.count == 1:
            return  # a single process is interrupted by its signals
        asked = torch.tensor(float(noted_signal() is not None), device=self.config.device)
        if self.processes.all_reduce_mean(asked) > 0:
            raise Terminated(143)

    @contextmanager
    def _saved_when_stopped(self) -> Iterator[None]:
        """Save the last complete step on Ctrl-C or SIGTERM, and log how to resume."""
        try:
            yield
        except (KeyboardInterrupt, Terminated):
            if self.step and self.checkpointer.saved_step != self.step:
                self._save()
            log.warning(
                "Stopped at step %d of %d. Run the same command to resume from there (%s).",
                self.step,
                self.config.end,
                self.folder,
            )
            raise

    def batch(self, step: int) -> list[Batch]:
        """Return this process's share of the batch of a step, in the parts that it is computed in."""
        return self._on_device(self._draw(step))

    def _draw(self, step: int) -> list[Batch]:
        clips = self.processes.shard(self.order.at(step))
        size = len(clips) // self.config.gradient_accumulation_steps
        return [self.source.batch(clips[start : start + size], step) for start in range(0, len(clips), size)]

    def _on_device(self, parts: Sequence[Batch]) -> list[Batch]:
        device, dtype = torch.device(self.config.device), next(iter(self.optimization.trained.values())).dtype
        return [part.to(device, dtype) for part in parts]

    def evaluate_all(self) -> HeldOutLoss:
        """Return the held-out loss over all clips, with the EMA weights."""
        with self.optimization.ema_weights():
            return self.evaluator.all_clips(self.model, self.step)

    def train_step(self, parts: Sequence[Batch]) -> dict[str, float]:
        """Run one optimiser step; return the loss, also by timestep, and the gradient norm before clipping.

        Raises:
            MobiusError: If the loss or a gradient is not finite; names the step and its clips.
        """
        try:
            return self.optimization.train_step(parts, self.step)
        except NotFiniteError as error:
            raise MobiusError(self._not_finite(error)) from error

    def _not_finite(self, what: NotFiniteError) -> str:
        clips = ", ".join(f"{clip.clip_id[:12]} ({clip.path})" for clip in self.order.at(self.step))
        saved = self.checkpointer.saved_step
        last = "there is no checkpoint yet" if saved is None else f"the last checkpoint is of step {saved}"
        return (
            f"Step {self.step}: {what}. Nothing was "
            f"updated; {last} ({self.folder}). Lower train.optimizer.learning_rate, or look at the clips of "
            f"this step: {clips}."
        )

    def _timed_step(self) -> float:
        more = self.step + 1 < self.config.end
        parts = self._on_device(self.loader.take(self.step, more=more))
        measured = self.meter.measure(
            self.step,
            lambda: self.train_step(parts),
            weights=[*self.model.parameters(), *self.optimization.ema.shadow_params],
            optimizer=self.optimization.optimizer,
            inputs=[tensor for part in parts for tensor in part.tensors],
        )
        rate = self.optimization.learning_rate(self.step)
        self.step += 1
        self.recorder.loss(self.step, measured["loss"], self.meter.timer.total_s)
        self.recorder.metrics(self.step, {**measured, "learning_rate": rate})
        return measured["loss"]

    def _first_of_the_largest(self) -> int:
        """Return the step whose memory and FLOPs are measured: the first with clips of the largest size."""
        largest = max(bucket[0].size.volume for bucket in self.buckets)
        steps = range(FIRST_MEASURED, self.config.end)
        return next((step for step in steps if self.order.at(step)[0].size.volume == largest), FIRST_MEASURED)

    def _evaluate(self) -> None:
        with self.optimization.ema_weights():
            result = self.evaluator.evaluate(self.model, self.step, self.meter.timer.total_s)
        parts = {f"heldout_loss/{name}": value for name, value in result.by_timestep.items()}
        self.recorder.metrics(self.step, {"heldout_loss": result.loss, **parts})

    def _save(self) -> None:
        if not self.processes.is_main_process:
            self.checkpointer.note(self.step)
            return
        path = self.checkpointer.save(self.state_dict())
        self.callbacks.checkpoint(path, self.step, {"heldout_loss": self.evaluator.losses[-1][1]})

    def _resume(self) -> None:
        checkpoint = self.checkpointer.newest()
        if checkpoint is not None:
            self.load_state_dict(checkpoint)

    @property
    def _parts(self) -> list[_Part]:
        """The parts of the trainer that keep a part of its history."""
        parts: list[_Part] = [self.recorder, self.loader, self.meter, self.evaluator]
        return [*parts, self.previewer] if self.previewer else parts

    @property
    def history(self) -> History:
        """Losses and measurements so far."""
        return History(**{key: value for part in self._parts for key, value in part.state_dict().items()})

    def state_dict(self) -> Checkpoint:
        """Return everything that a training needs to resume."""
        optimization = self.optimization.state_dict()
        progress = Progress(
            step=self.step,
            history=self.history,
            ema_steps=optimization.ema_steps,
            processes=self.processes.count,
        )
        return Checkpoint(optimization.tensors, progress)

    def load_state_dict(self, state: Checkpoint) -> None:
        """Restore what `state_dict` returned.

        Raises:
            MobiusError: If its tensors do not fit the model.
        """
        complaint = (
            f"The checkpoint of step {state.step} in {self.folder} does not fit the model. Delete its folder "
            "to resume from the one before, or the whole folder to start at step 0"
        )
        optimization = OptimizationState(state.tensors, state.progress.ema_steps)
        self.optimization.load_state_dict(optimization, complaint)
        history = dict(state.progress.history)
        for part in self._parts:
            part.load_state_dict(history)
        self.step = state.step


def _too_few(train: int, heldout: int, batch: int) -> MobiusError:
    return MobiusError(
        f"{train} training and {heldout} held-out clips are too few for a batch of {batch}. Add clips, or "
        "lower train.batch_size."
    )
