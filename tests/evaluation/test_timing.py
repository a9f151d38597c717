"""Which trainings can be run again for a few steps, to be timed taking turns."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from mobius_pipeline.evaluation.timing import can_be_timed
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training.run import fingerprints


def config_of(store: LatentsStore, base: Path) -> dict[str, Any]:
    model, train = tiny.model_config("parallel"), tiny.train_config()
    marks = fingerprints(store, base, model, train)
    return {
        "model": model.model_dump(mode="json"),
        "train": train.identity(),
        "fingerprints": {"config": marks.config, "base": marks.base, "data": marks.data},
        "processes": 1,
    }


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("model", {"stream_spatial": True}),  # an option of version 0.1.0
        ("train", {"batch_size": 0}),
        ("train", {"device": "cuda:9"}),
        ("fingerprints", {"base": "0" * 64}),
        ("fingerprints", {"data": "0" * 64}),
    ],
)
def test_a_record_of_elsewhere_is_not_timed(
    part: str, changes: dict[str, Any], tiny_store: Path, tiny_base: Path
) -> None:
    store = LatentsStore(tiny_store)
    own = config_of(store, tiny_base)
    other = own | {part: own[part] | changes}
    assert can_be_timed({"own": own}, store, tiny_base)
    assert not can_be_timed({"own": own, "other": other}, store, tiny_base)
