"""The `evaluate_serial` and `evaluate_parallel` pipelines: one modular pipeline under two namespaces."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.evaluate.nodes import evaluate
from mobius_pipeline.pipelines.modes import MODES


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipelines from weights and samples of each mode to its metrics and loss curves."""
    one = pipeline(
        [
            node(
                evaluate,
                inputs=[
                    "trained",
                    "samples",
                    "latents",
                    "base_model",
                    "params:evaluate",
                    "work",
                ],
                outputs=["metrics", "figures", "loss_curve", "heldout_curve"],
                name="evaluate",
                tags=["report", "tracked"],
            )
        ]
    )
    shared = {
        "inputs": {"latents", "base_model", "work"},
        "parameters": {"evaluate"},
    }
    modes = [pipeline(one, namespace=mode, tags=mode, **shared) for mode in MODES]
    return sum(modes, Pipeline([]))
