"""Per-clip work as a Daft dataflow."""

from pathlib import Path
from typing import Any

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.describe import ROW, describe
from mobius_pipeline.progress import stage


def describe_all(folder: Path, paths: list[str], config: IngestConfig) -> list[dict[str, Any]]:
    """Run `describe` over all sources; rows come in whatever order they are done."""
    import daft
    from daft import DataType

    row_type = DataType.struct({name: _daft_type(value) for name, value in ROW.items()})

    # A decoder that crashes or leaks must not take the run with it: files are read in processes of their own.
    @daft.func(return_dtype=DataType.list(row_type), use_process=True)
    def described(path: str) -> list[dict[str, Any]]:
        return describe(folder, path)

    flow = daft.from_pydict({"path": paths}).into_batches(config.files_per_batch)
    flow = flow.select(described(daft.col("path")).alias("rows"))
    rows = []
    with stage("ingest", len(paths), "files") as bar:
        for source in flow.iter_rows():
            rows += source["rows"]
            bar.advance()
    return rows


def _daft_type(value: object) -> Any:
    from daft import DataType

    return {int: DataType.int64(), float: DataType.float64(), str: DataType.string()}[type(value)]
