"""Checkpoints on disk: written completely or not at all, hashed, never pickled."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder, read_document, sha256, sync, write_json
from mobius_pipeline.runtime.signals import signals_wait
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.history import History
from mobius_pipeline.training.layout import MANIFEST, META, STATE, step_folder, step_folders, step_of
from mobius_pipeline.training.metrics import Recorded

if TYPE_CHECKING:
    from torch import Tensor

    from mobius_pipeline.training.processes import Processes

log = logging.getLogger(__name__)

T = TypeVar("T")


class Progress(Recorded):
    """How far a training has come: the file `state.json` of a checkpoint."""

    step: int = Field(description="optimiser steps")
    history: History
    ema_steps: int = Field(description="updates of the moving average")
    processes: int = Field(description="number of processes that trained")

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, found: Any) -> Any:
        """Earlier versions did not keep `shown`: they counted the preview of a saved step as shown."""
        if not isinstance(found, dict) or not isinstance(found.get("history"), dict):
            return found
        return {**found, "history": {"shown": found.get("step"), **found["history"]}}


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after some steps: weights, averages and optimiser states, and its progress."""

    tensors: "dict[str, Tensor]"
    progress: Progress

    @property
    def step(self) -> int:
        """Optimiser steps."""
        return self.progress.step


class Checkpointer:
    """Saves a training after the steps that are due, and finds the checkpoint that it resumes from.

    Attributes:
        saved_step: Step of the last checkpoint.
    """

    def __init__(self, folder: Path, config: TrainConfig, processes: "Processes") -> None:
        """Keep checkpoints in `folder`; the main process writes them."""
        self._folder, self._config, self._processes = folder, config, processes
        self.saved_step: int | None = None

    def due(self, step: int) -> bool:
        """Return whether to save after a step: it is due and not saved yet."""
        config = self._config
        at_step = step == config.end or step % config.checkpoint_every == 0
        return step > 0 and at_step and self.saved_step != step

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint; signals are delayed until it is complete.

        Raises:
            MobiusError: If it cannot be written; earlier ones are kept.
        """
        config = self._config
        with signals_wait():
            path = save_checkpoint(
                self._folder, checkpoint, keep_last=config.keep_last, keep_every=config.keep_every
            )
            self.saved_step = checkpoint.step
        return path

    def note(self, step: int) -> None:
        """Note that the main process saves a checkpoint of this step."""
        self.saved_step = step

    def newest(self) -> Checkpoint | None:
        """Read the newest intact checkpoint, which must be the same for every process.

        Raises:
            MobiusError: If the processes find different ones.
        """
        checkpoint = newest_checkpoint(self._folder)
        found = self._processes.gather(checkpoint.step if checkpoint else None)
        if len(set(found)) > 1:
            raise MobiusError(
                f"The processes find different checkpoints in {self._folder} (of steps {found}). Put it on a "
                "file system that all machines share."
            )
        if checkpoint is not None:
            log.info("Resuming from step %d of %d (%s).", checkpoint.step, self._config.end, self._folder)
            if (before := checkpoint.progress.processes) != self._processes.count:
                log.warning(
                    "It was saved by %d processes and is resumed by %d: the draws are the same, "
                    "sums are rounded differently.",
                    before,
                    self._processes.count,
                )
            self.saved_step = checkpoint.step
        return checkpoint


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep_last: int, keep_every: int | None = None
) -> Path:
    """Write a checkpoint to a temporary folder, rename it, then delete old ones.

    Args:
        folder: Folder of a training's checkpoints.
        checkpoint: The checkpoint to save.
        keep_last: Number of the newest checkpoints to keep.
        keep_every: Also keep every checkpoint whose step is a multiple of this.

    Raises:
        MobiusError: If it cannot be written; earlier ones are kept.
    """
    target = step_folder(folder, checkpoint.step)
    from safetensors.torch import save_file

    try:
        with atomic_folder(target) as partial:
            save_file(checkpoint.tensors, partial / STATE)
            write_json(partial / META, checkpoint.progress.model_dump(mode="json"), indent=None)
            write_json(partial / MANIFEST, {name: sha256(partial / name) for name in (STATE, META)})
        sync(folder)
    except (OSError, SafetensorError) as error:
        raise MobiusError(
            f"Cannot write the checkpoint {target} ({error}). Earlier ones are kept. To resume from the "
            "newest, make room, or make the folder writable, and run the same command."
        ) from error
    # Checkpoints after this step are stale: they were damaged, so training resumed from an earlier one.
    until_now = [path for path in step_folders(folder) if step_of(path) <= checkpoint.step]
    for old in until_now[keep_last:]:
        if keep_every is None or step_of(old) % keep_every:
            shutil.rmtree(old)
    return target


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest intact checkpoint, if there is one."""
    path = newest_intact(folder)
    if path is None:
        return None
    from safetensors.torch import load_file

    return Checkpoint(load_file(path / STATE), _read(path / META, Progress))


def saved_history(folder: Path) -> History:
    """Return the history in the newest intact checkpoint; empty without one."""
    path = newest_intact(folder)
    return _read(path / META, Progress).history if path else History()


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint's folder, damaged or not."""
    return next(iter(step_folders(folder)), None)


def newest_intact(folder: Path) -> Path | None:
    """Return the folder of the newest intact checkpoint; a damaged one is logged and skipped, not deleted."""
    for path in step_folders(folder):
        if reason := damage(path):
            log.warning("Checkpoint %s is damaged (%s) and is skipped.", path, reason)
            continue
        return path
    return None


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint folder, or None."""
    try:
        hashes = _read(path / MANIFEST, dict[str, str])
        if hashes.keys() != {STATE, META}:
            return f"its {MANIFEST} names {sorted(hashes) or 'nothing'}, not {META} and {STATE}"
        for name, expected in hashes.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if sha256(path / name) != expected:
                return f"{name} has changed"
        step = _read(path / META, Progress).step
        if step != step_of(path):
            return f"its {META} is of step {step}"
        with safe_open(path / STATE, framework="pt"):  # checks its header and the file's length
            return None
    except (OSError, MobiusError, SafetensorError) as error:
        return str(error)


def _read(path: Path, kind: type[T]) -> T:
    return read_document(path, kind, "The newest intact checkpoint is used.")
