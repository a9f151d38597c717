"""Encode clips on this machine, in this process or in several."""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from time import perf_counter

import torch

from mobius_pipeline.latents.encoder import Encoded, Encoder, Setting, Wanted
from mobius_pipeline.latents.placement import decoders_each, devices_of, is_measured, processes_for
from mobius_pipeline.latents.processes import encode_on

log = logging.getLogger(__name__)

MEASURED_S = 5.0  # time after the first clip from which the duration of the rest is estimated


def encode_locally(wanted: Sequence[Wanted], setting: Setting) -> Generator[Encoded]:
    """Encode clips; several processes yield them in the order in which they finish.

    Raises:
        MobiusError: If a device does not exist, or no process can be started.
        Exception: An error that is not the fault of a clip and would recur with the next one.
    """
    devices = devices_of(setting.config, torch.cuda.device_count)[: len(wanted)]
    if len(devices) > 1:
        yield from encode_on(devices, wanted, setting)
        return
    left = deque(wanted)
    processes = yield from _alone(left, setting, devices[0])
    if left:
        devices = devices * min(processes, len(left))
        log.info("%d processes encode the remaining %d clips.", len(devices), len(left))
        yield from encode_on(devices, left, setting)


def _alone(left: deque[Wanted], setting: Setting, device: str) -> Generator[Encoded, None, int]:
    """Encode in this process until starting several pays off; return how many to start (1: none)."""
    processes, measures = 1, is_measured(setting.config)
    pace, order = _Pace(), iter(list(left))
    with closing(Encoder(setting, device, decoders_each(1), device)) as encoder:
        while encoder.pending or (left and processes == 1):
            while left and processes == 1 and encoder.pending < encoder.most:
                encoder.begin(left.popleft())
            yield encoder.finish()
            pace.finished(next(order))
            if measures and pace.is_known:
                processes, measures = processes_for(pace.seconds(left), setting.config.threads), False
    return processes


class _Pace:
    """The measured speed of this process in pixels, to estimate the time for further clips."""

    def __init__(self) -> None:
        self._since, self._pixels = 0.0, 0

    def finished(self, wanted: Wanted) -> None:
        if self._since:
            self._pixels += wanted.pixels
        else:  # the first clip's time includes loading the model
            self._since = perf_counter()

    @property
    def is_known(self) -> bool:
        return self._pixels > 0 and perf_counter() - self._since > MEASURED_S

    def seconds(self, left: Iterable[Wanted]) -> float:
        pixels = sum(wanted.pixels for wanted in left)
        return (perf_counter() - self._since) * pixels / self._pixels
