"""Test the comparison's schema and serialisation, and that damaged files are refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError

import comparison_example
from damaged_json import write_damaged
from mobius_pipeline.comparison.model import Comparison, References, schema
from mobius_pipeline.pipelines.files import DocumentDataset

SCHEMA = Path(__file__).parents[2] / "docs/schemas/comparison.schema.json"
HOLDS = "mobius_pipeline.comparison.model.{}"


def dataset(file: Path, kind: type = Comparison) -> DocumentDataset:
    return DocumentDataset(filepath=str(file), holds=HOLDS.format(kind.__name__), made_by="compare")


def test_the_schema_file_is_up_to_date() -> None:
    assert SCHEMA.read_text() == schema(), "Run `make schema`."


def test_every_part_and_every_figure_is_described() -> None:
    whole = json.loads(schema())
    for name, part in {"Comparison": whole, **whole["$defs"]}.items():
        assert part.get("description"), name
        for field, about in part["properties"].items():
            kinds = {one.get("type") for one in (about, *about.get("anyOf", []))}
            assert not kinds & {"number", "integer"} or about.get("description"), f"{name}.{field}"


@pytest.mark.parametrize("example", [comparison_example.comparison(), comparison_example.several()])
def test_a_comparison_comes_back_from_its_file(example: Comparison, tmp_path: Path) -> None:
    saved = dataset(tmp_path / "comparison.json")
    saved.save(example)
    assert saved.load() == example
    assert json.loads((tmp_path / "comparison.json").read_text()) == example.model_dump(mode="json")
    shown = json.loads(saved.preview())
    assert shown == example.model_dump(mode="json")
    assert next(iter(shown)) == "paired_step_times"  # the first that is neither a list nor a dictionary


def test_figures_that_are_no_numbers_stay_so(tmp_path: Path) -> None:
    curve = [(0, math.nan, 0.0), (1, math.inf, 0.5)]
    odd = comparison_example.changed(
        comparison_example.comparison(), "columns", "serial", "history", loss=curve
    )
    saved = dataset(tmp_path / "comparison.json")
    saved.save(odd)
    assert str(saved.load().columns["serial"].history.loss) == str(curve)


def test_no_references_are_saved_too(tmp_path: Path) -> None:
    saved = dataset(tmp_path / "references.json", References)
    saved.save(References())
    assert saved.load() == References()


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (("points",), None, "points: Field required"),  # as in version 0.1.0
        (("columns", "serial", "step_s"), "fast", "columns.serial.step_s: Input should be a valid number"),
        (("columns", "parallel", "history", "loss"), [[1, 2]], "columns.parallel.history.loss.0.2: Field"),
        (("references", "still"), {}, "references.still.colour: Field required"),
        (("fairness", "same_luck"), True, "fairness.same_luck: Extra inputs are not permitted"),
        (("columns",), {}, "columns: Dictionary should have at least 2 items"),
    ],
)
def test_a_damaged_file_names_the_place_and_what_makes_it_again(
    place: tuple[str, ...], value: Any, what: str, tmp_path: Path
) -> None:
    file = write_damaged(tmp_path / "comparison.json", comparison_example.comparison(), place, value)
    with pytest.raises(DatasetError) as raised:
        dataset(file).load()
    said = str(raised.value.__cause__)  # Kedro's command prints this
    assert said.startswith(f"{file} cannot be used: {what}")
    assert said.endswith("Run `kedro run --pipelines=compare` to make it again.")


def test_a_comparison_is_immutable_and_knows_no_other_keys() -> None:
    example = comparison_example.comparison()
    with pytest.raises(ValueError, match="frozen"):
        example.verdict = "another"  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra inputs"):
        Comparison(**dict(example), winner="serial")
