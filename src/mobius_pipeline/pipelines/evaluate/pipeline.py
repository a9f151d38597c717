"""The `evaluate_serial` and `evaluate_parallel` pipelines: one modular pipeline under two namespaces."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.evaluate.nodes import evaluate


def create_pipeline(**_: object) -> Pipeline:
    """Weights and samples of each mode in, its metrics and loss curves out."""
    one = pipeline(
        [
            node(
                evaluate,
                inputs=[
                    "weights",
                    "samples",
                    "manifest",
                    "raw_clips@source",
                    "base_model",
                    "params:evaluate",
                    "params:clip",
                    "work",
                ],
                outputs=["metrics", "loss_curve", "heldout_curve"],
                name="evaluate",
                tags="report",
            )
        ]
    )
    shared = {
        "inputs": {"manifest", "raw_clips@source", "base_model", "work"},
        "parameters": {"evaluate", "clip"},
    }
    modes = [pipeline(one, namespace=mode, tags=mode, **shared) for mode in ("serial", "parallel")]
    return sum(modes, Pipeline([]))
