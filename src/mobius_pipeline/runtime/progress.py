"""Progress bars, one per stage: finished units, the rate, and the remaining time.

A bar is live on a terminal. If the output goes to a file, a log line is written at most every 30 s.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")
log = logging.getLogger(__name__)

SECONDS_PER_LINE = 30


class _RateColumn(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


class Stage:
    """A running stage: `advance` moves the bar, `note` is a short text beside it (a loss, a file name)."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._reported = progress, task, monotonic()

    def advance(self, by: float = 1, note: str | None = None) -> None:
        """Move the bar by `by` units, and replace the note if one is given."""
        fields = {} if note is None else {"note": note}
        self._progress.update(self._task, advance=by, **fields)  # type: ignore[arg-type]
        is_seen = self._progress.console.is_terminal or self._progress.disable
        if not is_seen and monotonic() - self._reported > SECONDS_PER_LINE:
            self._reported = monotonic()
            task = self._progress.tasks[self._task]
            log.info("%s: %d of %d %s", task.description, task.completed, task.total, task.fields["unit"])


@contextmanager
def stage(title: str, total: int, unit: str, done: int = 0, shown: bool = True) -> Iterator[Stage]:
    """Show a bar titled `title` over `total` units, `done` of which are already finished."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=Console(), refresh_per_second=4, disable=not shown) as progress:
        yield Stage(progress, progress.add_task(title, total=total, completed=done, unit=unit, note=""))


def track(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """Yield `items`, and show the progress as a stage's bar."""
    with stage(title, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()
