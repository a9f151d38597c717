"""Identify the training that a resume state belongs to: resume the same one, refuse or fork another."""

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder, read_document, write_json
from mobius_pipeline.runtime.mappings import flatten
from mobius_pipeline.runtime.scratch import SCRATCHES, remove_leftovers
from mobius_pipeline.training.checkpoints import newest, newest_intact
from mobius_pipeline.training.config import OnMismatch
from mobius_pipeline.training.description import Identity
from mobius_pipeline.training.layout import TRAINING, step_of

log = logging.getLogger(__name__)

_SHAPE = ("model.", "fingerprints.base")  # keys that the shapes of a checkpoint depend on


def claim(
    state: Path, identity: Identity, steps: int, on_mismatch: OnMismatch, earlier: Iterable[Path]
) -> None:
    """Record in `state` which training it belongs to, and apply `on_mismatch` to an earlier training.

    Args:
        state: The state folder.
        identity: The training.
        steps: Number of steps of the whole training.
        on_mismatch: What to do if an earlier training has other settings: "restart" leaves it alone, "refuse"
            raises an error, "fork" starts from its newest checkpoint.
        earlier: Folders of earlier trainings of the mode; the one that was saved last is used.

    Raises:
        MobiusError: If `state` or, with "refuse", an earlier training has other settings, a training cannot
            be forked, or its `training.json` is damaged.
    """
    state.mkdir(parents=True, exist_ok=True)
    for left in state.glob(SCRATCHES):
        remove_leftovers(left)
    exists = (state / TRAINING).is_file()
    other = state if exists else _last_saved(path for path in earlier if path != state)
    if other and not exists and on_mismatch == "restart" and (reason := _unreadable(other)):
        log.warning("Starting at step 0. %s", reason)
        other = None
    changes = _differing(_identity(other), identity) if other else {}
    if exists and not changes:
        return
    if other and changes and on_mismatch == "fork":
        _write(state, identity, _fork(other, state, changes, steps))
        return
    if other and changes:
        found = f"{other} holds the resume state of another training: {'; '.join(changes.values())}."
        if exists or on_mismatch == "refuse":
            raise MobiusError(
                f"{found} Restore those settings to resume it. To start at step 0, name another folder or "
                "set train.on_mismatch=restart. To start from its newest checkpoint, set "
                "train.on_mismatch=fork."
            )
        log.info("Starting at step 0. %s", found)
    _write(state, identity, None)


def _write(state: Path, identity: Identity, forked_at: int | None) -> None:
    write_json(state / TRAINING, identity.model_dump(mode="json") | {"forked_at": forked_at})


def forked_at(state: Path) -> int | None:
    """Return the step of another training's checkpoint that this one was forked at, or None."""
    return _identity(state).forked_at


def _identity(state: Path) -> Identity:
    """Read which training a folder belongs to."""
    path = state / TRAINING
    remedy = (
        f"It records which training {state} belongs to. If no setting has changed since, delete this file "
        f"(`rm '{path}'`) and run the same command again: the training resumes from its newest checkpoint "
        "(a fork loses its mark). Otherwise delete the folder to start at step 0."
    )
    return read_document(path, Identity, remedy)


def _unreadable(state: Path) -> str | None:
    """Return why the folder's training cannot be identified, or None."""
    try:
        _identity(state)
    except MobiusError as error:
        return str(error)
    return None


def _last_saved(folders: Iterable[Path]) -> Path | None:
    """Return the folder whose newest checkpoint was saved last."""
    saved = {folder: path.stat().st_mtime for folder in folders if (path := newest(folder)) is not None}
    latest_first = sorted(saved, key=lambda folder: saved[folder], reverse=True)
    return next((folder for folder in latest_first if newest_intact(folder) is not None), None)


def _differing(there: Identity, here: Identity) -> dict[str, str]:
    """Return the differences of two trainings by key, without digests that follow from other keys."""
    old, new = (dict(flatten(one.model_dump(exclude={"forked_at"}))) for one in (there, here))
    keys = sorted((old | new).keys() - {"fingerprints.config"})
    return {
        key: f"{key} is {new.get(key)!r} and was {old.get(key)!r}"
        for key in keys
        if old.get(key) != new.get(key)
    }


def _fork(other: Path, state: Path, changes: Mapping[str, str], steps: int) -> int:
    """Copy the newest checkpoint of another training to `state`, and return its step."""
    if unfit := [change for key, change in changes.items() if key.startswith(_SHAPE)]:
        raise MobiusError(f"{other} cannot be forked because its weights would not fit: {'; '.join(unfit)}.")
    checkpoint = newest_intact(other)
    if checkpoint is None:
        raise MobiusError(f"{other} cannot be forked: it has no intact checkpoint.")
    if step_of(checkpoint) >= steps:
        raise MobiusError(
            f"{other} cannot be forked: its newest checkpoint is of step {step_of(checkpoint)}, and "
            f"this training ends at {steps}. Raise train.steps."
        )
    log.warning("Forking %s: %s.", checkpoint, "; ".join(changes.values()))
    if other != state:
        with atomic_folder(state / checkpoint.name) as partial:
            shutil.copytree(checkpoint, partial, dirs_exist_ok=True)
    return step_of(checkpoint)
