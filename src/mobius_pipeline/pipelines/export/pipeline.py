"""The `export_serial` and `export_parallel` pipelines, which no chain runs by itself."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.export.nodes import export


def create_pipeline(**_: object) -> Pipeline:
    """A training's weights and its base in; one folder out that holds both."""
    one = pipeline([node(export, ["trained", "base_model", "work"], "exported", name="export")])
    modes = [
        pipeline(one, namespace=mode, inputs={"base_model", "work"}, tags=mode)
        for mode in ("serial", "parallel")
    ]
    return sum(modes, Pipeline([]))
