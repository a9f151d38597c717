"""Run a task on every source in a Daft dataflow, on Daft's native engine or on a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.describe import KnownSource, imported_by_describe
from mobius_pipeline.ingest.schema import Rows, in_file
from mobius_pipeline.media.isolated_worker import Failed, WorkerLimits, Workers
from mobius_pipeline.runtime.daft_runner import EngineConfig, rows_of, use_engine


class Unread(NamedTuple):
    """The result for an argument whose process crashed, hung or used too much memory: the reason."""

    reason: str


def each(
    task: Callable[[str], Any],
    arguments: Sequence[str],
    columns: pa.Schema,
    config: IngestConfig,
    engine: EngineConfig,
) -> Iterator[tuple[str, Rows | KnownSource | Unread]]:
    """Run `task` on every argument, in isolated processes.

    Args:
        task: Maps an argument to rows or a `KnownSource`; it is pickled and sent to the processes.
        arguments: The arguments, in any order.
        columns: Columns of the rows.
        config: Batch size, and the limits and retries of a file.
        engine: The engine that runs the workers.

    Yields:
        An argument and its result, or an `Unread`; in the order in which they finish.
    """
    import daft
    from daft import DataType

    use_engine(engine)
    rows, text = DataType.from_arrow_type(pa.struct(list(in_file(columns)))), DataType.string()
    outcome = DataType.struct({"rows": DataType.list(rows), "known": text, "failure": text})
    limits = WorkerLimits(config.seconds_per_file, config.memory_mib_per_file, config.retries)
    imports = imported_by_describe(config)

    # Daft calls this from one thread per core. Each call takes a free worker, whose process may die.
    @daft.cls(use_process=False)
    class Described:
        def __init__(self) -> None:
            self._work = Workers(task, limits, imports)

        @daft.method(return_dtype=outcome)
        def __call__(self, argument: str) -> dict[str, Any]:
            try:
                answer = self._work(argument)
            except Failed as failure:
                return {"rows": [], "known": None, "failure": str(failure)}
            if isinstance(answer, KnownSource):
                return {"rows": [], "known": answer.sha256, "failure": None}
            return {"rows": answer, "known": None, "failure": None}

    flow = daft.from_pydict({"argument": list(arguments)}).into_batches(config.files_per_batch)
    flow = flow.select(daft.col("argument"), Described()(daft.col("argument")).alias("outcome"))
    for row in rows_of(flow):
        yield row["argument"], _answer(**row["outcome"])


def _answer(rows: Rows, known: str | None, failure: str | None) -> Rows | KnownSource | Unread:
    if failure is not None:
        return Unread(failure)
    return rows if known is None else KnownSource(known)
