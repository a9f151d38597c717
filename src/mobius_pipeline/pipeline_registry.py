"""The project's pipelines by name: what `kedro run --pipelines=<name>` takes.

Tags, for `--tags`: `serial` and `parallel`, the mode; `gpu`, what computes on the `device` of its parameters;
`report`, what measures and shows results; `tracked`, what records in MLflow.
"""

import warnings
from importlib import import_module

from kedro.pipeline import Pipeline

CHAIN = (
    "sample_data",
    "ingest",
    "validate",
    "base",
    "encode",
    "plan",
    "train_serial",
    "train_parallel",
    "sample_serial",
    "sample_parallel",
    "evaluate_serial",
    "evaluate_parallel",
    "compare",
)
MODES = ("serial", "parallel")


def register_pipelines() -> dict[str, Pipeline]:
    """Collect the project's pipelines; those of a mode exist once per mode, under its namespace.

    Kedro's `find_pipelines` takes a folder's name for its pipeline's, and a folder here may hold two.
    """
    with warnings.catch_warnings():
        # `compare` reads what the modes' namespaces wrote, and the dot in `serial.weights` says so.
        warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
        pipelines = {
            name: _create(name)
            for name in (
                "sample_data",
                "fetch",
                "ingest",
                "validate",
                "base",
                "encode",
                "plan",
                "compare",
                "register",
                "study",
            )
        }
        for name in ("train", "sample", "evaluate", "export"):
            for mode in MODES:
                pipelines[f"{name}_{mode}"] = _create(name).only_nodes_with_namespaces([mode])
        pipelines["__default__"] = sum((pipelines[name] for name in CHAIN), Pipeline([]))
    return pipelines


def _create(name: str) -> Pipeline:
    module = import_module(f"mobius_pipeline.pipelines.{name}")
    created: Pipeline = module.create_pipeline()
    return created
