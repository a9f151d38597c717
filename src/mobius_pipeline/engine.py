"""Which engine runs Daft's dataflows: its native one in this process, or a Ray cluster."""

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from mobius_pipeline.config import Config
from mobius_pipeline.errors import MobiusError


class EngineConfig(Config):
    """What every section of parameters whose work is a dataflow says of its engine."""

    engine: Literal["native", "ray"] = "native"
    ray_address: str | None = Field(
        default=None, description="of a running cluster; null: one on this machine, started if there is none"
    )

    @model_validator(mode="after")
    def _an_address_is_rays(self) -> Self:
        if self.ray_address is not None and self.engine != "ray":
            raise ValueError("ray_address is read with engine: ray alone; set that, or ray_address: null")
        return self


def use_engine(config: EngineConfig) -> None:
    """Have dataflows run on an engine; a process has one, which its first dataflow settles.

    Raises:
        MobiusError: If this process uses another engine already, or Ray is not installed.
    """
    import daft

    if config.engine == "ray":
        _start_ray(config.ray_address)
        runner = daft.set_runner_ray(noop_if_initialized=True)
    else:
        runner = daft.runners.get_or_create_runner()
    if runner.name != config.engine:
        raise MobiusError(
            f"This process runs Daft's engine {runner.name} already, and cannot change to {config.engine}. "
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
