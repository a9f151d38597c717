"""The project's pipelines by name, for `kedro run --pipelines=<name>`.

Tags, for `--tags`: `serial` and `parallel`, nodes of a mode; `gpu`, nodes that compute on the `device` of
their parameters; `report`, nodes that measure and show results; `tracked`, nodes that record in MLflow.
"""

import warnings
from importlib import import_module

from kedro.pipeline import Pipeline

from mobius_pipeline.pipelines.modes import MODES

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


def register_pipelines() -> dict[str, Pipeline]:
    """Return the project's pipelines; those of a mode exist once per mode, in its namespace.

    Kedro's `find_pipelines` names one pipeline after each folder, but a folder here may define several.
    """
    with warnings.catch_warnings():
        # `compare` reads datasets of the modes' namespaces, whose names contain a dot (`serial.trained`).
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
