"""The `export_serial` and `export_parallel` pipelines, which run only on request."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.export.nodes import export
from mobius_pipeline.pipelines.modes import MODES


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipelines that write a trained model and its base into one folder."""
    one = pipeline([node(export, ["trained", "base_model", "work"], "exported", name="export")])
    modes = [pipeline(one, namespace=mode, inputs={"base_model", "work"}, tags=mode) for mode in MODES]
    return sum(modes, Pipeline([]))
