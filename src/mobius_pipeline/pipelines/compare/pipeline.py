"""The `compare` pipeline: trainings beside each other."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.compare.nodes import (
    choose_trainings,
    compare,
    measure_references,
    report,
    summarize_data,
    time_steps,
    write_real_videos,
)


def create_pipeline(**_: object) -> Pipeline:
    """Trainings, samples and metrics of both modes in; comparison and report out.

    What is handed on in memory all follows from `trainings`: a run from one of the trainings on makes it too.
    """
    of_modes = [
        f"{mode}.{name}" for mode in ("serial", "parallel") for name in ("trained", "samples", "metrics")
    ]
    return pipeline(
        [
            node(
                choose_trainings,
                inputs=[*of_modes, "params:compare"],
                outputs="trainings",
                name="choose_trainings",
                tags=["tracked"],
            ),
            node(
                time_steps,
                inputs=["trainings", "latents", "base_model", "params:compare"],
                outputs="step_times",
                name="time_steps",
            ),
            node(
                measure_references,
                inputs=["trainings", "latents", "raw_clips@source", "base_model", "params:evaluate"],
                outputs="references",
                name="measure_references",
            ),
            node(
                write_real_videos,
                inputs=["trainings", "latents", "raw_clips@source", "params:sample.magnify", "work"],
                outputs="real_videos",
                name="write_real_videos",
            ),
            node(
                summarize_data,
                inputs=["trainings", "manifest", "quarantine"],
                outputs="data_summary",
                name="summarize_data",
            ),
            node(
                compare,
                inputs=["trainings", "step_times", "references", "data_summary", "real_videos", "media"],
                outputs=["comparison", "costs"],
                name="compare",
                tags=["tracked"],
            ),
            node(
                report,
                inputs=["comparison", "media", "work"],
                outputs="comparison_report",
                name="report",
                tags=["tracked"],
            ),
        ],
        tags="report",
    )
