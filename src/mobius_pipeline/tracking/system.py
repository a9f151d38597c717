"""Record the machine's load during a run, as measured by MLflow's own monitors."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mobius_pipeline.tracking.run import Run

log = logging.getLogger(__name__)

_ANY_KEY = "system/cpu_utilization_percentage"  # a key that is in every sample


@contextmanager
def system_metrics(run: Run, every: float | None, first: int) -> Iterator[None]:
    """Record CPU, memory, disk, network and GPU every `every` seconds in a thread; None: never.

    MLflow's own thread would stop for the rest of the run, almost silently, when the database is locked for a
    moment. Here the samples are delivered like all other records of the run.

    Args:
        run: The run to record in.
        every: Interval in seconds.
        first: Number of the first sample; a resumed run continues counting.
    """
    if every is None:
        yield
        return
    monitors = _monitors(run.id)
    ended = threading.Event()

    def watch() -> None:
        number = first
        while not ended.wait(every):
            run.log_system(_sample(monitors), number)
            number += 1

    thread = threading.Thread(target=watch, name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def next_sample(run: Run) -> int:
    """Return the number of the next sample of a run."""
    return max(run.stored_steps(_ANY_KEY), default=-1) + 1


def _monitors(run_id: str) -> list[Any]:
    """Return MLflow's monitors for the hardware of this machine."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics.system_metrics_monitor").setLevel(logging.WARNING)
    monitors: list[Any] = SystemMetricsMonitor(run_id).monitors
    if _has_gpu() and not any("GPU" in type(one).__name__ for one in monitors[1:]):
        log.warning(
            "The GPU's load is not recorded: MLflow reads it with nvidia-ml-py. Install that package."
        )
    return monitors


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _sample(monitors: list[Any]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        metrics |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return metrics
