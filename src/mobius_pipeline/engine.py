"""Which engine runs Daft's dataflows: its native one in this process, or a Ray cluster."""

import os
from typing import Literal

from mobius_pipeline.errors import MobiusError

Engine = Literal["native", "ray"]
_chosen: list[tuple[Engine, str | None]] = []  # Daft keeps its first engine until the process ends


def use_engine(engine: Engine, ray_address: str | None) -> None:
    """Have dataflows run on an engine; a process has one, which its first dataflow settles.

    Args:
        engine: "native" or "ray".
        ray_address: Of a running cluster; None for one on this machine, which is started where there is none.

    Raises:
        MobiusError: If this process uses another engine already, or Ray is not installed.
    """
    wanted = (engine, ray_address)
    if _chosen and _chosen[0] != wanted:
        raise MobiusError(
            f"This run uses the engine {_chosen[0]} already and cannot change to {wanted}. Set `engine` and "
            "`ray_address` alike in the parameters of all pipelines, or run those one by one."
        )
    if not _chosen and engine == "ray":
        _start_ray(ray_address)
    _chosen[:] = [wanted]


def _start_ray(address: str | None) -> None:
    try:
        import ray
    except ImportError as error:
        raise MobiusError("engine: ray needs Ray: `pip install 'mobius-pipeline[cluster]'`.") from error
    import daft

    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # the stage has one of its own
    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
    daft.set_runner_ray()
