"""The `ingest` pipeline: reads a folder of clips into a table."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.ingest.nodes import ingest_clips


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from raw clips to a table with one row per clip."""
    return pipeline(
        [
            node(
                ingest_clips,
                inputs=[
                    "raw_clips@source",
                    "params:ingest",
                    "params:clip",
                    "params:engine",
                    "work",
                    "project",
                ],
                outputs="clip_table",
                name="ingest_clips",
            )
        ]
    )
