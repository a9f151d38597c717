"""Which engine runs Daft's dataflows: its native one in this process, or a Ray cluster."""

import os
from typing import Literal

from mobius_pipeline.errors import MobiusError

Engine = Literal["native", "ray"]


def use_engine(engine: Engine, ray_address: str | None) -> None:
    """Have dataflows run on an engine; a process has one, which its first dataflow settles.

    Args:
        engine: "native" or "ray".
        ray_address: Of a running cluster; None for one on this machine, which is started where there is none.

    Raises:
        MobiusError: If this process uses another engine already, or Ray is not installed.
    """
    import daft

    if engine == "ray":
        _start_ray(ray_address)
        runner = daft.set_runner_ray(noop_if_initialized=True)
    else:
        runner = daft.runners.get_or_create_runner()
    if runner.name != engine:
        raise MobiusError(
            f"This process runs Daft's engine {runner.name} already, and cannot change to {engine}. "
            "Set `engine` alike for all pipelines or run them one by one; look whether DAFT_RUNNER is set."
        )


def _start_ray(address: str | None) -> None:
    try:
        import ray
    except ImportError as error:
        raise MobiusError("engine: ray needs Ray: `pip install 'mobius-pipeline[cluster]'`.") from error
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # the stage has one of its own
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
