"""How many processes encode clips, and on which devices."""

import os
import resource
import sys
from collections.abc import Callable, Mapping

import psutil

from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.runtime.errors import MobiusError

SECONDS_EACH = 30  # of work: its imports cost 6.4 s of a core (docs/scale.md), and then it loads the model
MOST_DECODERS = 8  # of a model: each holds a decoded clip
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def cores() -> int:
    """CPU cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def decoders_each(processes: int) -> int:
    """Decoding processes for each of so many that encode: together one a core."""
    return max(1, min(cores() // processes, MOST_DECODERS))


def is_measured(config: EncodeConfig) -> bool:
    """Whether the number of processes follows from how long the first clips take."""
    return config.processes == "auto" and config.device == "cpu"


def devices_of(config: EncodeConfig, gpus_here: Callable[[], int]) -> list[str]:
    """The device of each process on this machine.

    Args:
        config: `device`, `gpus`, and `processes`, which may leave their number to these.
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
            "processes: auto for one on each, or lower encode.gpus."
        )


def _gpus(config: EncodeConfig, here: int) -> list[int]:
    chosen = config.gpus
    if chosen == "auto":
        return list(range(here))
    asked = list(range(chosen)) if isinstance(chosen, int) else list(chosen)
    if missing := [gpu for gpu in asked if gpu >= here]:
        raise MobiusError(
            f"encode.gpus is {chosen}, and this machine has {here} GPUs (the first is 0; there is no "
            f"{missing[0]}). Set gpus: auto to use all that there are."
        )
    return asked


def actors_of(config: EncodeConfig, cluster: Mapping[str, float]) -> tuple[int, float]:
    """The number of a Ray cluster's actors that encode, and each one's share of a GPU.

    Args:
        config: `gpus`, and `processes`, which may leave their number to these.
        cluster: What it has, as of `ray.cluster_resources`.

    Raises:
        MobiusError: If the cluster has fewer GPUs, or fewer CPUs than actors, or GPUs are named one by one.
    """
    if isinstance(config.gpus, list):
        raise MobiusError(
            f"encode.gpus is {config.gpus}: on a Ray cluster, which chooses itself, set a number or auto."
        )
    gpus_there, cpus = (int(cluster.get(kind, 0)) for kind in ("GPU", "CPU"))
    gpus = gpus_there if config.gpus == "auto" else config.gpus
    if gpus > gpus_there:
        raise MobiusError(
            f"encode.gpus is {gpus}, and the Ray cluster has {gpus_there} GPUs. Lower it, or add nodes."
        )
    actors = max(gpus, 1) if config.processes == "auto" else config.processes
    _refuse_idle_gpus(actors, gpus)
    if actors > cpus:  # the rest would be waited for, ten minutes long
        raise MobiusError(
            f"{actors} actors would encode, and the Ray cluster has {cpus} CPUs: each takes one. Lower "
            "encode.processes or encode.gpus, or add nodes."
        )
    return actors, gpus / actors


def processes_for(seconds: float, threads: int) -> int:
    """How many processes are worth their start for work that takes one of them so long.

    At most one for each `threads` cores, and none that would not fit into memory.
    """
    return max(1, min(int(seconds / SECONDS_EACH), cores() // threads, _fitting()))


def _fitting() -> int:
    """How many more processes fit, each of which needs what this one has needed at its peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return int(psutil.virtual_memory().available / peak)
