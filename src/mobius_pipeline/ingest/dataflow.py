"""Per-source work as a Daft dataflow: on its own engine in this process, or on a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.media.isolated_worker import Failed, Limits, Workers
from mobius_pipeline.runtime.daft_runner import EngineConfig, rows_of, use_engine


def each(
    task: Callable[[str], Any],
    arguments: Sequence[str],
    result: dict[str, Any],
    config: IngestConfig,
    engine: EngineConfig,
) -> Iterator[tuple[str, list[dict[str, Any]], str]]:
    """Run `task` on every argument, each in a watched process.

    Args:
        task: From an argument to rows; it is sent to other processes.
        arguments: In any order.
        result: A value of each column of a row.
        config: The processes, and a file's limits.
        engine: On which they are run.

    Yields:
        The argument, its rows, and "" or the reason that there are none; in whatever order they are done.
    """
    import daft
    from daft import DataType

    use_engine(engine)
    row_type = DataType.struct({name: _daft_type(value) for name, value in result.items()})
    outcome = DataType.struct({"rows": DataType.list(row_type), "failure": DataType.string()})
    limits = Limits(config.seconds_per_file, config.memory_mib_per_file, config.retries)

    @daft.cls(
        use_process=False
    )  # a thread a core calls it; each takes one of the workers, whose process may die
    class Described:
        def __init__(self) -> None:
            self._work = Workers(task, limits)

        @daft.method(return_dtype=outcome)
        def __call__(self, argument: str) -> dict[str, Any]:
            try:
                return {"rows": self._work(argument), "failure": ""}
            except Failed as failure:
                return {"rows": [], "failure": str(failure)}

    flow = daft.from_pydict({"argument": list(arguments)}).into_batches(config.files_per_batch)
    flow = flow.select(daft.col("argument"), Described()(daft.col("argument")).alias("outcome"))
    for row in rows_of(flow):
        yield row["argument"], row["outcome"]["rows"], row["outcome"]["failure"]


def _daft_type(value: object) -> Any:
    from daft import DataType

    return {int: DataType.int64(), float: DataType.float64(), str: DataType.string()}[type(value)]
