"""The `register` pipeline, which runs only on request."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.register.nodes import register


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from a comparison to a version in MLflow's model registry and a record of it."""
    inputs = ["comparison", "serial.trained", "parallel.trained", "base_model", "latents", "params:register"]
    return pipeline([node(register, inputs, "registration", name="register", tags=["tracked", "report"])])
