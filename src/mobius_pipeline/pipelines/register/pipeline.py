"""The `register` pipeline, which no chain runs by itself."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.register.nodes import register


def create_pipeline(**_: object) -> Pipeline:
    """A comparison and its trainings in; a version in MLflow's registry and a record of it out."""
    inputs = ["comparison", "serial.trained", "parallel.trained", "base_model", "latents", "params:register"]
    return pipeline([node(register, inputs, "registration", name="register", tags=["tracked", "report"])])
