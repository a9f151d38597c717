"""The `validate` pipeline: which clips can be trained on, and why the others cannot."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.validate.nodes import make_manifest


def create_pipeline(**_: object) -> Pipeline:
    """The table of clips in; the manifest, the quarantine and Data Docs out."""
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
