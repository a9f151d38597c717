"""Choose the engine that runs Daft's dataflows: the native one in this process, or a Ray cluster."""

import os
import signal
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.redaction import redacted
from mobius_pipeline.runtime.signals import signals_wait


class EngineConfig(Config):
    """`engine` in `conf/<env>/parameters.yml`: one for all pipelines, since a process can have only one."""

    name: Literal["native", "ray"] = "native"
    address: str | None = Field(
        default=None,
        description="address of a running Ray cluster; null: one on this machine, started if there is none",
    )

    @model_validator(mode="after")
    def _an_address_is_rays(self) -> Self:
        if self.address is not None and self.name != "ray":
            raise ValueError("engine.address needs engine.name: ray. Set that, or set engine.address: null")
        return self


NATIVE = EngineConfig()
_READY_S = 600  # s, for workers that load a model; Daft's 120 s are too short on a busy machine


def use_engine(engine: EngineConfig) -> None:
    """Run dataflows on an engine; a process has only one, set by its first dataflow.

    Raises:
        MobiusError: If this process uses another engine already, or Ray is not installed.
    """
    import daft

    if engine.name == "ray":
        _start_ray(engine.address)
        runner = daft.set_runner_ray(noop_if_initialized=True)
        daft.set_execution_config(actor_udf_ready_timeout=_READY_S)
    else:
        runner = daft.runners.get_or_create_runner()
    if runner.name != engine.name:
        raise MobiusError(
            f"This process already runs Daft's engine {runner.name} and cannot change to {engine.name}. "
            "Check whether DAFT_RUNNER is set, and use a separate process for each engine."
        )


def rows_of(flow: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataflow as they are computed.

    Raises:
        Exception: The original exception of a worker, which Ray wraps once for each process on its way.
    """
    rows = flow.iter_rows()
    try:
        while True:
            with signals_wait():  # an exception in Daft's event loop would abort the process
                row = next(rows, None)
            if row is None:
                return
            yield row
    except Exception as error:
        first: BaseException = error
        while isinstance(cause := getattr(first, "cause", None), Exception):
            first = cause
        if first is error:
            raise
        raise first from error


def _start_ray(address: str | None) -> None:
    try:
        import ray
    except ImportError as error:
        raise MobiusError("engine.name: ray needs Ray: `pip install 'mobius-pipeline[cluster]'`.") from error
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # the stage shows its own
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            if signal.getsignal(signal.SIGTERM) is not before:  # Ray has replaced it
                signal.signal(signal.SIGTERM, before)
            where = f"the cluster at engine.address ({redacted(address)})" if address else "a local cluster"
            # Ray splits the address, and would show a part of a password.
            reason = "" if "@" in (address or "") else f": {str(error).strip().partition(chr(10))[0]}"
            raise MobiusError(
                f"engine.name: ray cannot use {where}{reason}. Name a running cluster as host:port or "
                "ray://host:port, or set engine.address: null."
            ) from error
