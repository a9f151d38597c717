"""The `compare` pipeline: trainings beside each other."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.compare.nodes import compare, report


def create_pipeline(**_: object) -> Pipeline:
    """Trainings, samples and metrics of both modes in; comparison and report out."""
    of_modes = [
        f"{mode}.{name}" for name in ("weights", "samples", "metrics") for mode in ("serial", "parallel")
    ]
    return pipeline(
        [
            node(
                compare,
                inputs=[
                    *of_modes,
                    "manifest",
                    "quarantine",
                    "raw_clips@source",
                    "base_model",
                    "latents",
                    "params:evaluate",
                    "params:compare",
                    "params:clip",
                    "params:sample.magnify",
                    "work",
                ],
                outputs=["comparison", "costs", "real_videos"],
                name="compare",
                tags=["report", "tracked"],
            ),
            node(
                report,
                inputs=["comparison", "real_videos", "work"],
                outputs="comparison_report",
                name="report",
                tags=["report", "tracked"],
            ),
        ]
    )
