"""Processes of this machine that encode clips, each with a model on a device of its own.

Clips are handed out in their order, to whoever has the least to do. A process that dies is started again. The
clip that it was at is tried again as often as `encode.retries` says, then reported. The others that it had
are handed out again.
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

TO_END = 10  # s, that a process has which has nothing left to do
_READY = "ready"


@dataclass(frozen=True)
class _Raised:
    """Sent in place of a result."""

    error: Exception


def encode_on(devices: Sequence[str], wanted: Sequence[Wanted], setting: Setting) -> Generator[Encoded]:
    """Encode clips in a process for each of `devices`; they come in whatever order they are done.

    Raises:
        MobiusError: If no process can be started.
        Exception: An error that is not a clip's own, from any process; all are ended then.
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
    """What is left to encode, and who is at it."""

    def __init__(self, team: Sequence["_Process"], wanted: Sequence[Wanted], setting: Setting) -> None:
        self._team, self._setting, self._waiting = list(team), setting, deque(wanted)
        self._deaths: Counter[str] = Counter()

    def encoded(self) -> Iterator[Encoded]:
        """Every clip, as soon as it is done."""
        while self._waiting or any(one.begun for one in self._team):
            self._hand_out()
            ready = wait([one.connection for one in self._team if one.connection])
            for process in [one for one in self._team if one.connection in ready]:
                yield from self._from(process)

    def _hand_out(self) -> None:
        """Start processes for what waits, and give each as many clips as it can work ahead on."""
        while self._waiting:
            free = [one for one in self._team if len(one.begun) < one.most]
            if not free:
                return
            one = min(free, key=lambda one: len(one.begun))
            if one.connection is None:
                one.start(self._setting)
            one.give(self._waiting.popleft())

    def _from(self, process: "_Process") -> Iterator[Encoded]:
        """What a process has to say, be it that it died."""
        try:
            said = process.receive()
        except (EOFError, OSError):
            yield from self._lost(process)
            return
        if isinstance(said, _Raised):
            raise said.error
        if said == _READY:
            process.is_ready = True
            return
        process.begun.popleft()
        yield said

    def _lost(self, process: "_Process") -> Iterator[Encoded]:
        how, begun = process.how_it_ended(), list(process.begun)
        process.begun.clear()
        if not process.is_ready:
            self._waiting.extendleft(reversed(begun))
            self._go_on_without(process, how)
        elif begun:
            at = begun[0]  # the others were being decoded, by processes that may die alone
            self._deaths[at.clip_id] += 1
            log.warning("What encodes on %s %s at %s. It is started again.", process.name, how, at.path)
            if self._deaths[at.clip_id] > self._setting.config.retries:
                del begun[0]
                yield Encoded(at.clip_id, None, DIED, process.name)
            self._waiting.extendleft(reversed(begun))

    def _go_on_without(self, process: "_Process", how: str) -> None:
        self._team.remove(process)
        log.warning(
            "What encodes on %s %s while it started; %d are left.", process.name, how, len(self._team)
        )
        if not self._team:
            raise MobiusError(
                f"No process that encodes can be started: that on {process.name} {how}. What it printed is "
                "above; if it was killed, the machine may be short of memory. Set encode.processes: 1. What "
                "is finished stays, and `kedro run --pipelines=encode` goes on from there. A script that "
                "encodes needs `if __name__ == '__main__':` around its calls."
            )


class _Process:
    """One that encodes, not running at first."""

    def __init__(self, name: str, device: str, decoders: int) -> None:
        self.name, self._device, self._decoders = name, device, decoders
        self.most = decoders + 1
        self.begun: deque[Wanted] = deque()  # in the order in which it works on them
        self.connection: Connection | None = None
        self.is_ready = False
        self._process: Any = None

    def start(self, setting: Setting) -> None:
        # Forked from a process that has imported torch once for all, and uses no GPU: CUDA survives no fork.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", __name__])
        self.connection, theirs = context.Pipe()
        arguments = (setting, self._device, self._decoders, self.name, theirs)
        self._process = context.Process(target=_serve, args=arguments, name=f"encode on {self.name}")
        self.is_ready = False
        with sigint_blocked():  # Ctrl-C is this process's, which then ends the other
            self._process.start()
        theirs.close()

    def give(self, wanted: Wanted) -> None:
        self.begun.append(wanted)
        with suppress(OSError):  # it died, as its connection will say when it is read next
            self._open.send(wanted)

    def receive(self) -> Any:
        """What it sends next.

        Raises:
            EOFError, OSError: If it has died.
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
        """Let it end, which has nothing left to do."""
        if self.connection:
            self.connection.close()
            self.connection = None
            self._process.join(TO_END)
            self._process.kill()
            self._process.join()


def _serve(setting: Setting, device: str, decoders: int, name: str, connection: Connection) -> None:
    """What a process does: encode what it is given, until the connection is closed."""
    end_with_parent()
    guard_logs()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)  # nothing is put on another GPU
        with closing(Encoder(setting, device, decoders, name)) as encoder:
            encoder.load()
            connection.send(_READY)
            for encoded in _served(encoder, connection):
                connection.send(encoded)
    except Exception as error:
        error.add_note(f"In the process that encodes on {name}:\n{traceback.format_exc()}")
        with suppress(OSError):  # nobody listens
            connection.send(_Raised(sendable(error)))


def _served(encoder: Encoder, connection: Connection) -> Iterator[Encoded]:
    """What is asked for through a connection, until that is closed; more is begun meanwhile."""
    while True:
        while not encoder.begun or (encoder.begun < encoder.most and connection.poll(0)):
            try:
                encoder.begin(connection.recv())
            except EOFError:
                return
        yield encoder.finish()
