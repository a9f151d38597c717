"""The `train_serial` and `train_parallel` pipelines: one modular pipeline under two namespaces."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.modes import MODES
from mobius_pipeline.pipelines.train.nodes import train


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipelines from latents and base model to each mode's weights, EMA weights and metrics."""
    one = pipeline(
        [
            node(
                train,
                inputs=[
                    "latents",
                    "base_model",
                    "params:train",
                    "params:model",
                    "params:serial.model",
                    "work",
                ],
                outputs="trained",
                name="train",
                tags=["gpu", "tracked"],
            )
        ]
    )
    shared = {"inputs": {"latents", "base_model", "work"}, "parameters": {"train", "serial.model"}}
    modes = [pipeline(one, namespace=mode, tags=mode, **shared) for mode in MODES]
    return sum(modes, Pipeline([]))
