"""Preview videos of a run, and the recording of those that it lacks."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobius_pipeline.tracking.run import Sink

log = logging.getLogger(__name__)


def videos_of(step: int) -> str:
    """Return the folder of a run's artifacts for the videos of a step."""
    return f"previews/step-{step:08d}"


def refill_videos(sink: "Sink", run_id: str, folders: Mapping[int, Path]) -> None:
    """Record the videos that a run lacks; warn of recorded and of lost ones.

    Args:
        sink: The run's sink.
        run_id: The run's name in messages.
        folders: The folder in which the videos of each step were kept; it may be missing.
    """
    filled, lost = [], []
    for step, folder in folders.items():
        stored, kept = sink.stored_files(videos_of(step)), {path.name for path in folder.glob("*")}
        if kept - stored:
            sink.artifact(folder, videos_of(step))
            filled.append(step)
        elif not stored:
            lost.append(step)
    if filled:
        log.warning(
            "Run %s lacked the preview videos of %s: filled in from the training's folder.",
            run_id,
            _of(filled),
        )
    if lost:
        log.warning(
            "Run %s lacks the previews of %s. They are lost: previews can only be sampled at their step of "
            "the training.",
            run_id,
            _of(lost),
        )


def _of(steps: list[int]) -> str:
    return f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}"
