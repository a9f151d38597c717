"""The `base` pipeline: the base model that both modes start from."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.base.nodes import make_base


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline that imports or trains the base model, in diffusers format."""
    return pipeline(
        [
            node(
                make_base,
                inputs=["manifest", "raw_clips@source", "base_source", "params:base", "params:clip", "work"],
                outputs="base_model",
                name="make_base",
                tags="gpu",
            )
        ]
    )
