"""The `fetch` pipeline: public clips by name and pinned version, for the environments that have some."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.fetch.nodes import fetch_clips


def create_pipeline(**_: object) -> Pipeline:
    """Nothing in, a folder of captioned clips out."""
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
