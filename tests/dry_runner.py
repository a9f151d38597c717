"""A runner for `kedro run --runner=dry_runner.DryRunner`: it prints the nodes of a run and their inputs."""

from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner


class DryRunner(SequentialRunner):
    def run(self, pipeline: Pipeline, catalog: DataCatalog, *_: Any, **__: Any) -> dict[str, Any]:
        for node in pipeline.nodes:
            print("node", node.name)
        for name in sorted(pipeline.inputs()):
            print(name, catalog.load(name) if name.startswith("params:") else catalog[name]._filepath)
        return {}
