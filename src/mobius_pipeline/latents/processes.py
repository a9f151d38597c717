"""Encode clips in several processes on this machine, each with its own VAE on its own device.

Clips are assigned in order to the process with the fewest pending clips. A process that dies is restarted.
The clip that it was encoding is retried `encode.retries` times, then reported as failed. Its other clips are
assigned again.
"""

import logging
import multiprocessing
import signal
import traceback
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from mobius_pipeline.latents.encoder import Encoded, Encoder, Setting, Wanted
from mobius_pipeline.latents.placement import decoders_each
from mobius_pipeline.latents.retries import DIED
from mobius_pipeline.media.isolated_worker import sendable
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.redaction import guard_logs
from mobius_pipeline.runtime.signals import end_with_parent, sigint_blocked, signals_wait

log = logging.getLogger(__name__)

TO_END = 10  # s, that an idle process has to exit before it is killed
_READY = "ready"


@dataclass(frozen=True)
class _Raised:
    """An error that a process sends in place of a result."""

    error: Exception


def encode_on(devices: Sequence[str], wanted: Sequence[Wanted], setting: Setting) -> Generator[Encoded]:
    """Encode clips in one process for each of `devices`; yield them in the order in which they finish.

    Raises:
        MobiusError: If no process can be started.
        Exception: An error of any process that is not the fault of a clip; all processes are killed.
    """
    decoders = decoders_each(len(devices))
    team = [_Process(f"{device} (process {n})", device, decoders) for n, device in enumerate(devices, 1)]
    try:
        yield from _Work(team, wanted, setting).encoded()
    except BaseException:
        for one in team:
            one.kill()
        raise
    finally:
        with signals_wait():
            for one in team:
                one.end()


class _Work:
    """The clips still to encode, and the processes that encode them."""

    def __init__(self, team: Sequence["_Process"], wanted: Sequence[Wanted], setting: Setting) -> None:
        self._team, self._setting, self._waiting = list(team), setting, deque(wanted)
        self._deaths: Counter[str] = Counter()

    def encoded(self) -> Iterator[Encoded]:
        """Yield every clip as soon as it is encoded."""
        while self._waiting or any(one.pending for one in self._team):
            self._hand_out()
            ready = wait([one.connection for one in self._team if one.connection])
            for process in [one for one in self._team if one.connection in ready]:
                yield from self._from(process)

    def _hand_out(self) -> None:
        """Assign waiting clips to processes that can work ahead on them; start those that do not run."""
        while self._waiting:
            free = [one for one in self._team if len(one.pending) < one.most]
            if not free:
                return
            one = min(free, key=lambda one: len(one.pending))
            if one.connection is None:
                one.start(self._setting)
            one.give(self._waiting.popleft())

    def _from(self, process: "_Process") -> Iterator[Encoded]:
        """Handle a message from a process, or its death."""
        try:
            message = process.receive()
        except (EOFError, OSError):
            yield from self._lost(process)
            return
        if isinstance(message, _Raised):
            raise message.error
        if message == _READY:
            process.is_ready = True
            return
        process.pending.popleft()
        yield message

    def _lost(self, process: "_Process") -> Iterator[Encoded]:
        how, pending = process.how_it_ended(), list(process.pending)
        process.pending.clear()
        if not process.is_ready:
            self._waiting.extendleft(reversed(pending))
            self._go_on_without(process, how)
        elif pending:
            at = pending[0]  # the others were being decoded, in processes of their own
            self._deaths[at.clip_id] += 1
            log.warning(
                "The encoding process on %s %s while encoding %s. It is restarted.",
                process.name,
                how,
                at.path,
            )
            if self._deaths[at.clip_id] > self._setting.config.retries:
                del pending[0]
                yield Encoded(at.clip_id, None, DIED, process.name)
            self._waiting.extendleft(reversed(pending))

    def _go_on_without(self, process: "_Process", how: str) -> None:
        self._team.remove(process)
        log.warning(
            "The encoding process on %s %s while it started; %d processes are left.",
            process.name,
            how,
            len(self._team),
        )
        if not self._team:
            raise MobiusError(
                f"No encoding process could be started: the one on {process.name} {how}. Its output is "
                "above; if it was killed, the machine may be short of memory. Set encode.processes: 1. "
                "Finished shards are kept, and `kedro run --pipelines=encode` encodes only the rest. A "
                "script that encodes needs `if __name__ == '__main__':` around its calls."
            )


class _Process:
    """An encoding process; it does not run until `start`."""

    def __init__(self, name: str, device: str, decoders: int) -> None:
        self.name, self._device, self._decoders = name, device, decoders
        self.most = decoders + 1
        self.pending: deque[Wanted] = deque()  # in the order in which it works on them
        self.connection: Connection | None = None
        self.is_ready = False
        self._process: Any = None

    def start(self, setting: Setting) -> None:
        # Forked from a server that has imported torch and uses no GPU: CUDA does not work after a fork.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", __name__])
        self.connection, theirs = context.Pipe()
        arguments = (setting, self._device, self._decoders, self.name, theirs)
        self._process = context.Process(target=_serve, args=arguments, name=f"encode on {self.name}")
        self.is_ready = False
        with sigint_blocked():  # this process handles Ctrl-C, and then ends the other
            self._process.start()
        theirs.close()

    def give(self, wanted: Wanted) -> None:
        self.pending.append(wanted)
        with suppress(OSError):  # it died; the next `receive` reports that
            self._open.send(wanted)

    def receive(self) -> Any:
        """Return the next message of the process.

        Raises:
            EOFError, OSError: If the process has died.
        """
        return self._open.recv()

    @property
    def _open(self) -> Connection:
        if self.connection is None:
            raise EOFError
        return self.connection

    def how_it_ended(self) -> str:
        self.end()
        code = self._process.exitcode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        if self.connection:
            self._process.kill()

    def end(self) -> None:
        """Close an idle process; kill it after `TO_END`."""
        if self.connection:
            self.connection.close()
            self.connection = None
            self._process.join(TO_END)
            self._process.kill()
            self._process.join()


def _serve(setting: Setting, device: str, decoders: int, name: str, connection: Connection) -> None:
    """Run an encoding process: encode the clips that it receives, until the connection is closed."""
    end_with_parent()
    guard_logs()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)  # allocate nothing on another GPU
        with closing(Encoder(setting, device, decoders, name)) as encoder:
            encoder.load()
            connection.send(_READY)
            for encoded in _served(encoder, connection):
                connection.send(encoded)
    except Exception as error:
        error.add_note(f"In the encoding process on {name}:\n{traceback.format_exc()}")
        with suppress(OSError):  # the other end is closed
            connection.send(_Raised(sendable(error)))


def _served(encoder: Encoder, connection: Connection) -> Iterator[Encoded]:
    """Yield the clips requested through a connection until it is closed; begin further ones meanwhile."""
    while True:
        while not encoder.pending or (encoder.pending < encoder.most and connection.poll(0)):
            try:
                encoder.begin(connection.recv())
            except EOFError:
                return
        yield encoder.finish()
