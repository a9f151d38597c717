"""The `sample_data` pipeline: renders the default clips."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.sample_data.nodes import render_sample_clips


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline that renders captioned sample clips."""
    return pipeline(
        [
            node(
                render_sample_clips,
                inputs=["params:sample_data", "sample_clips", "work"],
                outputs="raw_clips@sample",
                name="render_sample_clips",
            )
        ]
    )
