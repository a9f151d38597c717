"""The `sample_serial` and `sample_parallel` pipelines: one modular pipeline under two namespaces."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.modes import MODES
from mobius_pipeline.pipelines.sample.nodes import sample


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipelines from each mode's weights and prompts to videos."""
    one = pipeline(
        [
            node(
                sample,
                inputs=["trained", "base_model", "latents", "params:sample", "params:clip", "work"],
                outputs="samples",
                name="sample",
                tags="gpu",
            )
        ]
    )
    shared = {"inputs": {"latents", "base_model", "work"}, "parameters": {"sample", "clip"}}
    modes = [pipeline(one, namespace=mode, tags=mode, **shared) for mode in MODES]
    return sum(modes, Pipeline([]))
