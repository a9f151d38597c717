"""The `plan` pipeline: predicts the cost of both modes before training."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.plan.nodes import plan_training


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from the base's configuration to the predicted cost of both modes."""
    return pipeline(
        [
            node(
                plan_training,
                inputs=[
                    "base_model",
                    "params:plan",
                    "params:clip",
                    "params:train.batch_size",
                    "params:train.gradient_accumulation_steps",
                    "params:train.num_processes",
                    "params:train.rendezvous",
                    "params:train.steps",
                    "params:train.equal_compute",
                    "params:train.autocast",
                    "params:train.device",
                    "params:serial.model",
                    "params:parallel.model",
                ],
                outputs="plan",
                name="plan_training",
                tags="tracked",
            )
        ]
    )
