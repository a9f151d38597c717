"""The `fetch` pipeline: downloads public clips in a pinned version, in environments that use some."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.fetch.nodes import fetch_clips


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline that downloads a folder of captioned clips."""
    return pipeline(
        [
            node(
                fetch_clips,
                inputs=["params:fetch", "work"],
                outputs="raw_clips@fetched",
                name="fetch_clips",
            )
        ]
    )
