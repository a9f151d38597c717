"""Decide how many processes encode clips, and on which devices."""

import os
import resource
import sys
from collections.abc import Callable, Mapping

import psutil

from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.runtime.errors import MobiusError

SECONDS_EACH = (
    30  # work that pays for a process: its imports take 6.4 s (docs/scale.md), then it loads the VAE
)
MOST_DECODERS = 8  # for each VAE: each holds a decoded clip in memory
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def decoders_each(processes: int) -> int:
    """Return the number of decoding processes per encoding process: one per core in total."""
    return max(1, min(cores() // processes, MOST_DECODERS))


def is_measured(config: EncodeConfig) -> bool:
    """Return whether the number of processes is derived from the time that the first clips take."""
    return config.processes == "auto" and config.device == "cpu"


def devices_of(config: EncodeConfig, gpus_here: Callable[[], int]) -> list[str]:
    """Return the device of each encoding process on this machine.

    Args:
        config: `device`, `gpus` and `processes`; auto gives one process per device.
        gpus_here: Counts this machine's GPUs.

    Raises:
        MobiusError: If there are fewer GPUs than asked for, or fewer processes than GPUs.
    """
    names = [f"cuda:{gpu}" for gpu in _gpus(config, gpus_here())] if config.gpus else [config.device]
    processes = len(names) if config.processes == "auto" else config.processes
    _refuse_idle_gpus(processes, len(names))
    return [names[number % len(names)] for number in range(processes)]


def _refuse_idle_gpus(processes: int, gpus: int) -> None:
    if processes < gpus:
        raise MobiusError(
            f"encode.processes is {processes}, which leaves some of {gpus} GPUs without a process. Set "
            "encode.processes: auto for one process per GPU, or lower encode.gpus."
        )


def _gpus(config: EncodeConfig, here: int) -> list[int]:
    chosen = config.gpus
    if chosen == "auto":
        return list(range(here))
    asked = list(range(chosen)) if isinstance(chosen, int) else list(chosen)
    if missing := [gpu for gpu in asked if gpu >= here]:
        raise MobiusError(
            f"encode.gpus is {chosen}, and this machine has {here} GPUs (numbered from 0; there is no "
            f"{missing[0]}). Set encode.gpus: auto to use all of them."
        )
    return asked


def actors_of(config: EncodeConfig, cluster: Mapping[str, float]) -> tuple[int, float]:
    """Return the number of encoding actors of a Ray cluster, and the share of a GPU that each one gets.

    Args:
        config: `gpus` and `processes`; auto gives one actor per GPU.
        cluster: The resources of the cluster, from `ray.cluster_resources`.

    Raises:
        MobiusError: If the cluster has too few GPUs, or fewer CPUs than actors, or `gpus` is a list.
    """
    if isinstance(config.gpus, list):
        raise MobiusError(
            f"encode.gpus is {config.gpus}, but a Ray cluster chooses the GPUs itself. Set a number or auto."
        )
    gpus_there, cpus = (int(cluster.get(kind, 0)) for kind in ("GPU", "CPU"))
    gpus = gpus_there if config.gpus == "auto" else config.gpus
    if gpus > gpus_there:
        raise MobiusError(
            f"encode.gpus is {gpus}, and the Ray cluster has {gpus_there} GPUs. Lower it, or add nodes."
        )
    actors = max(gpus, 1) if config.processes == "auto" else config.processes
    _refuse_idle_gpus(actors, gpus)
    if actors > cpus:  # Daft would wait ten minutes for the others
        raise MobiusError(
            f"{actors} encoding actors need a CPU each, and the Ray cluster has {cpus} CPUs. Lower "
            "encode.processes or encode.gpus, or add nodes."
        )
    return actors, gpus / actors


def processes_for(seconds: float, threads: int) -> int:
    """Return how many processes pay off for work that takes one process `seconds`.

    At most one per `threads` cores, and only as many as fit in memory; at least 1.
    """
    return max(1, min(int(seconds / SECONDS_EACH), cores() // threads, _fitting()))


def _fitting() -> int:
    """Return how many more processes fit in memory, if each needs as much as this one at its peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return int(psutil.virtual_memory().available / peak)
