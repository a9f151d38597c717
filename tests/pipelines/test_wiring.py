"""Test that catalog, pipelines and dvc.yaml name the same files."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.utils import load_obj

from mobius_pipeline.hooks import refuse_missing_steps
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.pipeline_registry import CHAIN
from mobius_pipeline.pipelines.files import DocumentDataset, EarlierTableDataset, TableDataset
from mobius_pipeline.pipelines.folders import FolderDataset, PlaceDataset
from mobius_pipeline.pipelines.modes import MODES
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.tables import StoredTable

if TYPE_CHECKING:
    import grimp

ROOT = Path(__file__).parents[2]
# Modules that do not affect a stage's outputs: they check, record, show or publish them.
WITHOUT_EFFECT = (
    "comparison.notes", "runtime.addresses", "runtime.daft_runner", "runtime.devices", "runtime.errors",
    "runtime.locks", "runtime.progress", "runtime.redaction", "runtime.remote_files", "runtime.scratch",
    "runtime.signals", "tracking", "training.previews",
)  # fmt: skip


LARGER_THAN_MEMORY = ("ingest_clips", "clip_table")  # the node returns a file
IN_MEMORY = {"trainings", "step_times", "data_summary"}  # the only datasets without a file


@pytest.fixture(scope="module")
def catalog() -> DataCatalog:
    bootstrap_project(ROOT)
    with KedroSession.create(project_path=ROOT) as session:
        return session.load_context().catalog


def stages() -> dict[str, dict[str, Any]]:
    """Return dvc.yaml's stages with its matrix expanded: `train_serial` and so on."""
    document = (ROOT / "dvc.yaml").read_text()
    found = {}
    for name, stage in yaml.safe_load(document)["stages"].items():
        for mode in stage.get("matrix", {}).get("mode", [None]):
            text = (
                yaml.safe_dump(stage)
                .replace("${item.mode}", str(mode))
                .replace("${clips}", "data/01_raw/clips")
                .replace("${base_model}", "conf/base/parameters_base.yml")
            )
            found[f"{name}_{mode}" if mode else name] = yaml.safe_load(text)
    return found


def paths(entries: list[Any]) -> set[str]:
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def files(catalog: DataCatalog, names: set[str]) -> set[str]:
    """Return the paths of the datasets that are files, relative to the project."""
    read = [name for name in names - IN_MEMORY if not name.startswith("param")]
    places = PlaceDataset | EarlierTableDataset
    found = (str(catalog[name]._filepath) for name in read if not isinstance(catalog[name], places))
    return {Path(path).relative_to(ROOT).as_posix() if path.startswith("/") else path for path in found}


def test_every_pipeline_of_the_chain_is_a_stage() -> None:
    assert list(stages()) == list(CHAIN)
    for name, stage in stages().items():
        assert stage["cmd"] == f"kedro run --env=base --pipelines={name}"


def test_nodes_take_and_give_the_classes_that_the_catalog_holds(catalog: DataCatalog) -> None:
    """Kedro reads the hints, too: it checks no parameter of a node whose hints it cannot resolve."""
    nodes = {node.name: node for one in pipelines.values() for node in one.nodes}
    compared = 0
    for node in nodes.values():
        hints = get_type_hints(node.func)
        given = hints.pop("return")
        gives = get_args(given) if get_origin(given) is tuple else (given,)
        arguments = [hints[name] for name in inspect.signature(node.func).parameters]
        for name, kind in (
            *zip(node.inputs, arguments, strict=True),
            *zip(node.outputs, gives, strict=True),
        ):
            if (held := held_by(catalog, name)) is not None and (node.name, name) != LARGER_THAN_MEMORY:
                compared += 1
                assert kind is held, (node.name, name)
    assert compared > 60


def held_by(catalog: DataCatalog, name: str) -> type | None:
    """Return the class that a dataset loads, if the catalog names one."""
    if name.startswith("params:") or name in IN_MEMORY:
        return None
    held = getattr(catalog.get(name), "_holds", None)
    return None if held is None else load_obj(held)


def test_artifacts_are_what_stages_make() -> None:
    document = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    outs = set().union(*(paths(stage.get("outs", [])) for stage in stages().values()))
    artifacts = document["artifacts"]
    assert {one["path"] for one in artifacts.values()} <= outs
    assert {name: one["type"] for name, one in artifacts.items()} == {
        "base": "model",
        "serial": "model",
        "parallel": "model",
        "latents": "dataset",
    }
    assert all(one["desc"] and one["labels"] for one in artifacts.values())


@pytest.mark.parametrize("name", CHAIN)
def test_outputs_agree(name: str, catalog: DataCatalog) -> None:
    stage = stages()[name]
    outs = set().union(*(paths(stage.get(key, [])) for key in ("outs", "metrics", "plots")))
    assert files(catalog, pipelines[name].all_outputs()) == outs


@pytest.mark.parametrize("name", CHAIN)
def test_inputs_agree(name: str, catalog: DataCatalog) -> None:
    deps = {path for path in paths(stages()[name]["deps"]) if path.startswith("data/")}
    assert files(catalog, pipelines[name].inputs()) == deps


@pytest.mark.parametrize("node", [f"{mode}.{step}" for mode in MODES for step in ("train", "evaluate")])
def test_a_run_from_a_training_on_makes_what_is_in_memory(node: str) -> None:
    assert pipelines["__default__"].from_nodes(node).inputs() & IN_MEMORY == set()


@pytest.mark.parametrize("node", ["compare", "measure_references"])
def test_a_run_that_lacks_a_step_names_it(node: str, catalog: DataCatalog) -> None:
    chain = pipelines["__default__"]
    with pytest.raises(MobiusError, match="needs data_summary, step_times, trainings, which") as refused:
        refuse_missing_steps(chain.from_nodes(node), catalog)
    named = str(refused.value).partition("--from-nodes=")[2].split(",")
    refuse_missing_steps(chain.from_nodes(*named), catalog)


@pytest.mark.parametrize("name", CHAIN)
def test_errors_name_the_pipeline_that_makes_a_file(name: str, catalog: DataCatalog) -> None:
    for output in pipelines[name].all_outputs() - IN_MEMORY:
        dataset = catalog[output]
        if isinstance(dataset, FolderDataset):
            assert f"`kedro run --pipelines={name}`" in dataset._remedy
        if isinstance(dataset, TableDataset | DocumentDataset):
            assert f"`kedro run --pipelines={name}`" in dataset._remedy
        if isinstance(dataset, FolderDataset) and dataset._holds:
            assert callable(load_obj(dataset._holds).load)
        if isinstance(dataset, TableDataset):
            assert issubclass(load_obj(dataset._holds), StoredTable)


@pytest.mark.parametrize("name", CHAIN)
def test_parameters_agree(name: str) -> None:
    """The parameters that a pipeline reads are those that make its stage run again."""
    used = {
        name.removeprefix("params:").split(".")[0] for name in pipelines[name].inputs() if "params:" in name
    }
    declared = set()
    for file in stages()[name].get("params", []):
        for keys in file.values():
            declared |= {key.split(".")[0] for key in keys}
    assert used - {"engine"} == declared  # the engine does not affect the outputs


def test_parameters_can_be_set_by_dvc() -> None:
    """`dvc exp run --set-param` reads each file alone and does not support Kedro's `globals`."""
    files = {file for stage in stages().values() for entry in stage["params"] for file in entry}
    assert not any("${" in (ROOT / file).read_text() for file in files)


@pytest.fixture(scope="module")
def imports() -> "grimp.ImportGraph":
    """Return the package's import graph, with imports inside functions."""
    import grimp

    graph = grimp.build_graph("mobius_pipeline")
    for name in WITHOUT_EFFECT:
        for module in {f"mobius_pipeline.{name}", *graph.find_descendants(f"mobius_pipeline.{name}")}:
            graph.remove_module(module)
    return graph


def imported(graph: "grimp.ImportGraph", name: str) -> set[str]:
    """Return the source files of a folder's pipelines and all that they import, directly or indirectly."""
    root = f"mobius_pipeline.pipelines.{name.removesuffix('_serial').removesuffix('_parallel')}"
    own = {root, *graph.find_descendants(root)}
    modules = own.union(*(graph.find_upstream_modules(module) for module in own))
    return {path for path in map(source_file, modules) if not path.endswith("/__init__.py")}


def source_file(module: str) -> str:
    path = Path("src", *module.split("."))
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def modules_of(dep: str) -> set[str]:
    """Return the source files of a dependency, which is a file or a folder."""
    folder = ROOT / dep
    found = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*.py") if path.name != "__init__.py"}
    return found if folder.is_dir() else {dep}


@pytest.mark.parametrize("name", CHAIN)
def test_source_files_agree(name: str, imports: "grimp.ImportGraph") -> None:
    """A stage depends on the files that its pipeline imports and on no others.

    A dependency may be a folder if the pipeline imports most of its files.
    """
    used = imported(imports, name)
    deps = {dep: modules_of(dep) for dep in paths(stages()[name]["deps"]) if dep.startswith("src/")}
    assert used <= set().union(*deps.values())
    assert {dep for dep, files in deps.items() if len(files & used) <= len(files) / 2} == set()


_WIRING = ("tail", "width", "blocks")  # settings that only parallel has


def test_modes_share_their_memory_levers() -> None:
    parameters = yaml.safe_load((ROOT / "conf/base/parameters_train.yml").read_text())
    models = {mode: parameters[mode]["model"] for mode in MODES}
    assert {mode: model.pop("mode") for mode, model in models.items()} == {mode: mode for mode in MODES}
    levers = [{key: model[key] for key in model if key not in _WIRING} for model in models.values()]
    assert models["serial"].keys() == models["parallel"].keys()
    assert levers[0] == levers[1]


def test_usual_models_are_those_of_the_configuration() -> None:
    parameters = yaml.safe_load((ROOT / "conf/base/parameters_train.yml").read_text())
    assert {mode: Variant(**parameters[mode]["model"]) for mode in USUAL} == USUAL
    for mode in USUAL:  # a reader of the file finds every option there
        assert parameters[mode]["model"].keys() == Variant.__annotations__.keys()
