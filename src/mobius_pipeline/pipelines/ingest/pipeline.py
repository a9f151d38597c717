"""The `ingest` pipeline: a folder of clips to a table of them."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.ingest.nodes import ingest_clips


def create_pipeline(**_: object) -> Pipeline:
    """Raw clips in, a row a clip out."""
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
