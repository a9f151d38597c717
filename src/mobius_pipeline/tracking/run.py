"""A run: metrics, parameters and files, validated here and written by a `Sink` (see `tracking.sink`)."""

import json
import logging
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.mappings import flatten
from mobius_pipeline.runtime.redaction import redacted
from mobius_pipeline.tracking.outbox import Delivery, patiently
from mobius_pipeline.tracking.videos import refill_videos, videos_of

log = logging.getLogger(__name__)

FLUSH_ENTRIES = 1000  # MLflow's largest batch of metrics; writing it takes 0.1-0.2 s on SQLite
FLUSH_SECONDS = 10.0  # so that the UI follows a running training
LAST_WAIT = 60.0  # s to wait for MLflow before a run starts, in `flush`, and at the end
MAX_PARAMS = 100  # MLflow's largest batch of parameters
MAX_PARAM_LENGTH = 6000  # characters; MLflow would silently cut longer values
COPIED_FROM = "copied.from"  # the tag of a copy with the id of the original run
MODES = ("serial", "parallel", "sum")


class Entry(NamedTuple):
    """One metric value, stamped with its time (ms since the epoch) and step."""

    key: str
    value: float
    timestamp: int
    step: int


class Input(NamedTuple):
    """A data set that a run reads: digest, source, purpose, and a profile that can be written as JSON."""

    digest: str
    source: str = ""
    context: str = "training"
    profile: Mapping[str, Any] = {}


class Sink:
    """Receiver of a run's records; this base class discards them.

    A method may raise `UnavailableError`: it is then called again later.
    """

    def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
        """Write a batch of at most `FLUSH_ENTRIES` metrics and `MAX_PARAMS` parameters."""

    def artifact(self, path: Path, folder: str | None) -> None:
        """Copy a file, or the content of a folder, below `folder` of the run's artifacts."""

    def image(self, image: Any, key: str, step: int) -> None:
        """Store an image for a step."""

    def checkpoint(self, name: str, step: int, folder: Path, metrics: list[Entry]) -> None:
        """Record the checkpoint in `folder`, without copying it."""

    def dataset(self, name: str, read: Input) -> None:
        """Record a data set that the run reads."""

    def describe(self, text: str) -> None:
        """Set the description on the run's page, in Markdown."""

    def stored_params(self) -> dict[str, str]:
        """Return the parameters that the run already has."""
        return {}

    def stored_steps(self, keys: Collection[str] | None = None) -> dict[str, set[int]]:
        """Return the steps that the run already has of the metrics `keys`, by default of all."""
        return {}

    def stored_files(self, folder: str) -> set[str]:
        """Return the names of the files in a folder of the run's artifacts."""
        return set()

    def end(self, status: str) -> None:
        """Set the run's final status."""


class Run:
    """A run that records metrics, parameters and files, and delivers them in the background. End or close it.

    Keys do not contain the mode (`loss`, not `serial.loss`): MLflow compares equal keys. Not thread-safe.
    """

    def __init__(self, run_id: str, sink: Sink, stored: Mapping[str, set[int]] | None = None) -> None:
        """Record into `sink`; steps in `stored`, which a resumed run already has, are not recorded again."""
        self.id = run_id
        self._sink = sink
        self._delivery = Delivery("MLflow")
        self._stored = dict(stored or {})
        self._keys: set[str] = set()
        self._nonfinite: set[str] = set()
        self._buffer: list[Entry] = []
        self._flushed = time.monotonic()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record values at a step; with `None` they belong to the run as a whole.

        A value is anything that `float` accepts; reading a tensor on a GPU waits for its computation. A value
        that is not finite becomes the tag `nonfinite.<key>`: MLflow would store inf as 1.8e308.

        Raises:
            MobiusError: If MLflow does not accept a key, or a key contains the mode.
        """
        timestamp = time.time_ns() // 1_000_000
        for key, value in metrics.items():
            self._check_key(key)
            number = float(value)
            if not math.isfinite(number):
                self._refuse_nonfinite(key, number, step)
            elif step is None or step not in self.stored_steps(key):
                self._buffer.append(Entry(key, number, timestamp, step or 0))
        if len(self._buffer) >= FLUSH_ENTRIES or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._send()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record a nested mapping, its keys joined with dots.

        MLflow cannot change a parameter. If the run already has another value (a later evaluation with other
        settings), the new value becomes the tag `param.<key>`, with a warning.
        """
        self.flush()  # so that stored_params sees earlier parameters
        new = {key: _cut(key, _text(value)) for key, value in flatten(params)}
        stored = patiently("MLflow", self._sink.stored_params, LAST_WAIT)
        changed = {f"param.{key}": value for key, value in new.items() if stored.get(key, value) != value}
        if changed:
            log.warning(
                "Run %s keeps its first parameters; changed values are in the tags %s.",
                self.id,
                list(changed),
            )
        fresh = [item for item in new.items() if item[0] not in stored]
        for start in range(0, len(fresh), MAX_PARAMS):
            some = dict(fresh[start : start + MAX_PARAMS])
            self._delivery.put("parameter", len(some), partial(self._sink.batch, [], some, {}))
        self.set_tags(changed)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; existing tags of the same names are replaced."""
        if tags:
            texts = {key: redacted(str(value)) for key, value in tags.items()}
            self._delivery.put("tag", len(texts), partial(self._sink.batch, [], {}, texts))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or a folder's content, to `folder` of the run's artifacts, and wait for it.

        Raises:
            MobiusError: If `path` does not exist.
        """
        if not path.exists():
            raise MobiusError(f"{path} does not exist: the run {self.id} cannot record it.")
        self._delivery.put("artifact", 1, partial(self._sink.artifact, path, folder))
        self.flush()

    def log_image(self, image: Any, key: str, step: int = 0) -> None:
        """Record an image: a path, a PIL image, or an array (height, width, channels), uint8 or 0..1."""
        if isinstance(image, str | Path):
            from PIL import Image

            image = Image.open(image).convert("RGB")
        self._delivery.put("image", 1, partial(self._sink.image, image, key, step))

    def stored_steps(self, key: str) -> set[int]:
        """Return the steps of a metric that a resumed run had before this process."""
        return self._stored.get(key, set())

    def refill(self, history: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Record the steps that the run lacks of metrics, from values that were kept elsewhere.

        Steps are missing if a process was killed, or if MLflow was unavailable until its end.
        """
        self._send()
        count = sum(len(rows) for rows in history.values())
        self._delivery.put("kept metric value", count, partial(self._refill, history))

    def log_videos(self, folder: Path, step: int) -> None:
        """Record the videos in `folder` for a step; the folder must exist until they are delivered."""
        self._delivery.put("video folder", 1, partial(self._sink.artifact, folder, videos_of(step)))

    def refill_videos(self, folders: Mapping[int, Path]) -> None:
        """Record kept videos of steps for which the run has none; warn of those that are lost."""
        send = partial(refill_videos, self._sink, self.id, folders)
        self._delivery.put("kept video folder", len(folders), send)

    def log_system(self, metrics: Mapping[str, float], step: int) -> None:
        """Record a sample of the machine's load. May be called from another thread."""
        timestamp = time.time_ns() // 1_000_000
        entries = [Entry(f"system/{key}", float(value), timestamp, step) for key, value in metrics.items()]
        self._delivery.put("system metric", len(entries), partial(self._sink.batch, entries, {}, {}))

    def log_checkpoint(
        self, name: str, step: int, folder: Path, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Record the checkpoint in `folder` (not copied) as a model of this run, with metrics at `step`."""
        timestamp = time.time_ns() // 1_000_000
        entries = [Entry(key, float(value), timestamp, step) for key, value in (metrics or {}).items()]
        finite = [entry for entry in entries if math.isfinite(entry.value)]
        send = partial(self._sink.checkpoint, name, step, folder, finite)
        self._delivery.put("checkpoint", 1, send)

    def log_dataset(self, name: str, read: Input) -> None:
        """Record the data set `name`; the tag `data.<name>` holds its full digest."""
        shown = read._replace(source=redacted(read.source))
        self._delivery.put("data set", 1, partial(self._sink.dataset, name, shown))
        self.set_tags({f"data.{name}": read.digest})

    def describe(self, text: str) -> None:
        """Set the description on the run's page, in Markdown; tables of runs show its beginning."""
        self._delivery.put("description", 1, partial(self._sink.describe, redacted(text)))

    def flush(self) -> None:
        """Wait until everything is delivered, for at most a minute; the rest is delivered later."""
        self._send()
        self._delivery.wait(LAST_WAIT)

    def end(self, status: str) -> None:
        """Deliver the remaining records and set the status.

        Raises:
            MobiusError: If records could not be delivered; it lists them.
        """
        self._send()
        self._delivery.put("final status", 1, partial(self._sink.end, status))
        self.close()

    def close(self) -> None:
        """Deliver the remaining records; the status does not change.

        Raises:
            MobiusError: If records could not be delivered; it lists them.
        """
        self._send()
        self._delivery.close(LAST_WAIT)

    def _refill(self, history: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        stored = self._sink.stored_steps(history.keys())
        lacking = {
            key: [row for row in rows if row[0] not in stored.get(key, ())] for key, rows in history.items()
        }
        timestamp = time.time_ns() // 1_000_000
        entries = [
            Entry(key, value, timestamp, step) for key, rows in lacking.items() for step, value in rows
        ]
        for start in range(0, len(entries), FLUSH_ENTRIES):
            self._sink.batch(entries[start : start + FLUSH_ENTRIES], {}, {})
        if entries:
            counts = ", ".join(f"{key} of {len(rows)} steps" for key, rows in lacking.items() if rows)
            self._sink.batch([], {}, {"refilled": counts})
            log.warning("Run %s lacked %s: filled in from the training's own history.", self.id, counts)

    def _send(self) -> None:
        while self._buffer:
            some = self._buffer[:FLUSH_ENTRIES]
            del self._buffer[:FLUSH_ENTRIES]
            self._delivery.put("metric value", len(some), partial(self._sink.batch, some, {}, {}))
        self._flushed = time.monotonic()

    def _check_key(self, key: str) -> None:
        if key in self._keys:
            return
        if not re.fullmatch(r"[\w\-. :/]{1,250}", key):
            raise MobiusError(
                f"MLflow accepts no metric named {key!r}. Use letters, digits, _ - . : / and spaces."
            )
        if set(re.split(r"[./]", key)) & set(MODES):
            raise MobiusError(
                f"The metric {key!r} contains the mode, so runs could not be compared. Leave the mode out."
            )
        self._keys.add(key)

    def _refuse_nonfinite(self, key: str, value: float, step: int | None) -> None:
        if key not in self._nonfinite:
            self._nonfinite.add(key)
            log.warning(
                "%s is %s at step %s: kept as the tag nonfinite.%s, not as a metric.", key, value, step, key
            )
            self.set_tags({f"nonfinite.{key}": f"{value} at step {step}"})


def _text(value: Any) -> str:
    return redacted(json.dumps(value, default=str) if isinstance(value, list | tuple) else str(value))


def _cut(key: str, text: str) -> str:
    if len(text) > MAX_PARAM_LENGTH:
        log.warning("The parameter %s has %d characters; MLflow keeps %d.", key, len(text), MAX_PARAM_LENGTH)
    return text[:MAX_PARAM_LENGTH]
