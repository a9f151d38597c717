"""All sections of the configuration refuse numbers that no computation can use."""

import pytest
from pydantic import ValidationError

import golden
from mobius_pipeline.ingest.config import IngestConfig, WindowsConfig
from mobius_pipeline.runtime.config import Config
from mobius_pipeline.validation.config import Range


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("section", "given"),
    [(Range, {"max": None}), (WindowsConfig, {"length_s": 1.0})],
    ids=["limit", "length"],
)
def test_numbers_that_are_not_finite_are_refused(
    section: type[Config], given: dict[str, float | None], number: float
) -> None:
    (name,) = section.model_fields.keys() - given.keys()
    with pytest.raises(ValidationError, match=rf"{name}\n.*finite number"):
        section.model_validate(given | {name: number})


@pytest.mark.parametrize(("name", "most"), [("seconds_per_file", 1_000_000), ("memory_mib_per_file", 2**40)])
def test_a_limit_that_the_system_cannot_count_is_refused(name: str, most: int) -> None:
    given = golden.INGEST.model_dump()
    assert getattr(IngestConfig.model_validate(given | {name: most}), name) == most
    with pytest.raises(ValidationError, match=rf"{name}\n.* less than or equal to {most}"):
        IngestConfig.model_validate(given | {name: most + 1})
