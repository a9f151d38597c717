"""The `compare` pipeline: compares trainings and writes the report."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline, node, pipeline

from mobius_pipeline.pipelines.compare.nodes import (
    choose_trainings,
    compare,
    measure_references,
    report,
    summarize_data,
    time_steps,
    write_real_videos,
)
from mobius_pipeline.pipelines.modes import MODES


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from trainings, samples and metrics of both modes to comparison and report.

    All data that is passed in memory depends on `trainings`, so a run that starts at a training
    (`--from-nodes`) makes it, too.
    """
    of_modes = [f"{mode}.{name}" for mode in MODES for name in ("trained", "samples", "metrics")]
    raw, base = "raw_clips@source", "base_model"
    made = ["trainings", "step_times", "references", "data_summary", "real_videos", "media"]
    nodes = [
        _node(choose_trainings, [*of_modes, "params:compare"], "trainings", tracked=True),
        _node(time_steps, ["trainings", "latents", base, "params:compare"], "step_times"),
        _node(measure_references, ["trainings", "latents", raw, base, "params:evaluate"], "references"),
        _node(
            write_real_videos, ["trainings", "latents", raw, "params:sample.magnify", "work"], "real_videos"
        ),
        _node(summarize_data, ["trainings", "manifest", "quarantine"], "data_summary"),
        _node(compare, made, ["comparison", "costs"], tracked=True),
        _node(report, ["comparison", "media", "work"], "comparison_report", tracked=True),
    ]
    return pipeline(nodes, tags="report")


def _node(
    function: Callable[..., Any], inputs: list[str], outputs: str | list[str], *, tracked: bool = False
) -> Node:
    return node(function, inputs, outputs, name=function.__name__, tags=["tracked"] if tracked else None)
