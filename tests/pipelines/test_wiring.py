"""Catalog, pipelines and dvc.yaml name the same files."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog

from mobius_pipeline.pipeline_registry import CHAIN, MODES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def catalog() -> DataCatalog:
    bootstrap_project(ROOT)
    with KedroSession.create(project_path=ROOT) as session:
        return session.load_context().catalog


def stages() -> dict[str, dict[str, Any]]:
    """dvc.yaml's stages, its matrix written out: `train_serial` and so on."""
    document = (ROOT / "dvc.yaml").read_text()
    found = {}
    for name, stage in yaml.safe_load(document)["stages"].items():
        for mode in stage.get("matrix", {}).get("mode", [None]):
            text = (
                yaml.safe_dump(stage)
                .replace("${item.mode}", str(mode))
                .replace("${clips}", "data/01_raw/clips")
            )
            found[f"{name}_{mode}" if mode else name] = yaml.safe_load(text)
    return found


def paths(entries: list[Any]) -> set[str]:
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def files(catalog: DataCatalog, names: set[str]) -> set[str]:
    found = (str(catalog[name]._filepath) for name in names if not name.startswith("param"))
    return {Path(path).relative_to(ROOT).as_posix() if path.startswith("/") else path for path in found}


def test_every_pipeline_of_the_chain_is_a_stage() -> None:
    assert list(stages()) == list(CHAIN)
    for name, stage in stages().items():
        assert stage["cmd"] == f"kedro run --pipelines={name}"


@pytest.mark.parametrize("name", CHAIN)
def test_outputs_agree(name: str, catalog: DataCatalog) -> None:
    stage = stages()[name]
    outs = set().union(*(paths(stage.get(key, [])) for key in ("outs", "metrics", "plots")))
    assert files(catalog, pipelines[name].all_outputs()) == outs


@pytest.mark.parametrize("name", CHAIN)
def test_inputs_agree(name: str, catalog: DataCatalog) -> None:
    deps = {path for path in paths(stages()[name]["deps"]) if path.startswith("data/")}
    assert files(catalog, pipelines[name].inputs()) == deps


@pytest.mark.parametrize("name", CHAIN)
def test_parameters_agree(name: str) -> None:
    """A parameter that a pipeline reads is one that makes its stage run again."""
    used = {
        name.removeprefix("params:").split(".")[0] for name in pipelines[name].inputs() if "params:" in name
    }
    declared = set()
    for file in stages()[name].get("params", []):
        for keys in file.values():
            declared |= {key.split(".")[0] for key in keys}
    assert used - {"work"} == declared


def test_source_files_are_there() -> None:
    for stage in stages().values():
        for path in paths(stage["deps"]):
            assert path.startswith("data/") or (ROOT / path).exists(), path


def test_modes_differ_in_their_mode_alone() -> None:
    parameters = yaml.safe_load((ROOT / "conf/base/parameters_train.yml").read_text())
    models = {mode: parameters[mode]["model"] for mode in MODES}
    assert {mode: model.pop("mode") for mode, model in models.items()} == {mode: mode for mode in MODES}
    assert models["serial"] == models["parallel"]
