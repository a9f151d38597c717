"""The `encode` pipeline: encodes clips and captions into cached latents and text embeddings."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.encode.nodes import encode_clips


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from manifest, clips and base model to the latents store."""
    return pipeline(
        [
            node(
                encode_clips,
                inputs=[
                    "manifest",
                    "raw_clips@source",
                    "base_model",
                    "params:encode",
                    "params:clip",
                    "params:engine",
                    "latents_store",
                ],
                outputs="latents",
                name="encode_clips",
                tags="gpu",
            )
        ]
    )
