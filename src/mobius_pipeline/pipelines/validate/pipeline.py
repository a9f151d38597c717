"""The `validate` pipeline: selects the clips to train on, and records why the others fail."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.validate.nodes import make_manifest


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from the clip table to manifest, quarantine and Data Docs."""
    return pipeline(
        [
            node(
                make_manifest,
                inputs=["clip_table", "params:validate", "params:clip", "work", "earlier_manifest"],
                outputs=["manifest", "quarantine", "data_docs"],
                name="make_manifest",
            )
        ]
    )
