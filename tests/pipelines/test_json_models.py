"""Test that the models of JSON files say what their figures are."""

import pytest
from pydantic import BaseModel

from mobius_pipeline.evaluation.evaluation import Evaluation
from mobius_pipeline.planning.encoding_plan import EncodingPlan
from mobius_pipeline.planning.model import Plan
from mobius_pipeline.study.model import Study
from mobius_pipeline.training.history import History
from mobius_pipeline.training.metrics import Metrics

# Dataclasses, whose docstrings describe their fields.
DATACLASSES = {"ClipSize", "Device", "Prices", "Speed", "StepShape", "StoreFormat", "Variant"}


@pytest.mark.parametrize("kind", [Plan, EncodingPlan, Metrics, Evaluation, History, Study])
def test_every_figure_is_described(kind: type[BaseModel]) -> None:
    schema = kind.model_json_schema()
    parts = {kind.__name__: schema, **schema.get("$defs", {})}
    for name in parts.keys() - DATACLASSES:
        for field, about in parts[name].get("properties", {}).items():
            kinds = {one.get("type") for one in (about, *about.get("anyOf", []))}
            assert not kinds & {"number", "integer"} or about.get("description"), f"{name}.{field}"
