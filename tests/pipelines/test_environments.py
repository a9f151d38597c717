"""Test that an environment's files hold only what differs from conf/base, and are merged with it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from mobius_pipeline.runtime.mappings import flatten
from mobius_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(CONF.glob("emoji/*.yml"))


def read(path: Path) -> dict[str, Any]:
    return dict(flatten(yaml.safe_load(path.read_text())))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_preset_repeats_nothing_of_base(path: Path) -> None:
    base = read(CONF / "base" / path.name)
    assert {key: value for key, value in read(path).items() if base.get(key) == value} == {}


@pytest.mark.parametrize("file", ["globals", "parameters_train"])
def test_what_an_environment_does_not_name_is_base_s(tmp_path: Path, file: str) -> None:
    for env, text in (("base", "a: {b: {x: 1, y: 2}, some: [1, 2]}"), ("mine", "a: {b: {y: 3}, some: [4]}")):
        (tmp_path / env).mkdir()
        (tmp_path / env / f"{file}.yml").write_text(text)
    loader = OmegaConfigLoader(str(tmp_path), env="mine", **CONFIG_LOADER_ARGS)
    assert loader[file.partition("_")[0]] == {"a": {"b": {"x": 1, "y": 3}, "some": [4]}}
