"""The base model as stages exchange it."""

from pathlib import Path

import pytest

from copies import copied
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import TextEncoder
from mobius_pipeline.runtime.errors import MobiusError


def test_it_says_what_its_parts_are(tiny_base: Path) -> None:
    base = BaseModel.load(tiny_base)
    assert base.folder == tiny_base
    assert base.unet_config["_class_name"] == "UNet2DConditionModel"
    assert base.latent_scale == 4
    assert TextEncoder(tiny_base, "cpu")(["a caption"]).shape[1] == base.text_tokens == 12


def test_its_digest_follows_every_file(tiny_base: Path, tmp_path: Path) -> None:
    folder = copied(tiny_base, tmp_path / "base")
    base = BaseModel.load(folder)
    before = base.digest
    assert before == BaseModel.load(tiny_base).digest
    (folder / "scheduler/scheduler_config.json").write_text("{}")
    assert base.digest != before


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match=f"Cannot read {tmp_path}/model_index.json"):
        BaseModel.load(tmp_path)
