"""The hooks disable telemetry and configure tracking without importing MLflow."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline, node

from leaving import killed_while_writing
from mobius_pipeline import settings
from mobius_pipeline.hooks import ProjectHooks, left_behind
from mobius_pipeline.pipelines.folders import FolderDataset, StoreDataset
from mobius_pipeline.runtime import telemetry
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking import configured


def context(section: dict[str, object], path: Path) -> SimpleNamespace:
    for name in ("base", "local"):
        (path / "conf" / name).mkdir(parents=True)
    (path / "conf/base/tracking.yml").write_text(yaml.safe_dump(section))
    loader = OmegaConfigLoader(path / "conf", **settings.CONFIG_LOADER_ARGS)
    return SimpleNamespace(config_loader=loader, project_path=path)


def test_the_context_configures_tracking(tmp_path: Path) -> None:
    ProjectHooks().after_context_created(context({"experiment": "mine", "folder": "runs"}, tmp_path))
    try:
        assert configured.configured_store() == tracking.EmbeddedStore("mine", tmp_path / "runs")
        assert not (tmp_path / "runs").exists()
    finally:
        tracking.reset()


def test_errors_stay_plain_where_logging_was_configured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kedro's log handler installs rich's exception hook each time one is created."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    ProjectHooks().after_context_created(context({"experiment": "mine", "folder": "runs"}, tmp_path))
    tracking.reset()
    sys.excepthook(MobiusError, MobiusError("say so"), None)
    assert capsys.readouterr().err == "\nmobius: say so\n"
    sys.excepthook(KeyError, KeyError("a bug"), None)
    assert "KeyError: 'a bug'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "warned"),
    [
        ({"clips": "~/clips", "base_model": "models/~"}, ["clips: ~/clips"]),
        ({"clips": "clips", "base_model": "~/model", "clip": {"frames": 8}}, ["base_model: ~/model"]),
        ({"clips": "/clips"}, []),
    ],
)
def test_a_path_that_dvc_does_not_expand_is_named(
    paths: dict[str, object],
    warned: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    started = context({"experiment": "mine", "folder": "runs"}, tmp_path)
    (tmp_path / "conf/base/globals.yml").write_text(yaml.safe_dump(paths))
    ProjectHooks().after_context_created(started)
    tracking.reset()
    assert [line.split("`")[1] for line in caplog.messages] == warned
    assert all("write /home/me/" in line for line in caplog.messages)


@pytest.mark.parametrize("section", [{"experiment": "mine"}, {"experiment": "a", "folder": "b", "uri": "c"}])
def test_a_wrong_section_is_refused_with_its_file(tmp_path: Path, section: dict[str, object]) -> None:
    with pytest.raises(MobiusError, match=r"conf/base/tracking.yml"):
        ProjectHooks().after_context_created(context(section, tmp_path))


def test_settings_switch_telemetry_off_without_importing_mlflow_or_torch() -> None:
    code = (
        "import os, sys, mobius_pipeline.settings; from mobius_pipeline.runtime import telemetry; "
        "assert all(os.environ[k] == v for k, v in telemetry.SWITCHES.items()); "
        "assert not {'mlflow', 'torch', 'daft'} & set(sys.modules)"
    )
    clean = {key: value for key, value in os.environ.items() if key not in telemetry.SWITCHES}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean)


def test_the_switches_work_in_the_libraries_themselves() -> None:
    code = (
        "from mobius_pipeline.runtime import telemetry; telemetry.silence(); "
        "from daft.scarf_telemetry import opted_out; assert opted_out(); "
        "from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY; assert HF_HUB_DISABLE_TELEMETRY; "
        "from dvc.analytics import is_enabled; assert not is_enabled(); "
        "from mlflow.telemetry import utils; utils._IS_IN_CI_ENV_OR_TESTING = False; "
        "assert utils.is_telemetry_disabled()"
    )
    clean = {key: value for key, value in os.environ.items() if key not in telemetry.SWITCHES}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean)


def test_the_users_own_choice_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    telemetry.silence()
    assert os.environ["DO_NOT_TRACK"] == "false"


def test_a_step_that_another_process_runs_is_refused_until_the_run_ends(tmp_path: Path) -> None:
    step = node(len, "clips", "count", name="count_clips")
    catalog = DataCatalog({"work": MemoryDataset(tmp_path)})
    first, second = ProjectHooks(), ProjectHooks()
    first.before_node_run(step, catalog)
    with pytest.raises(MobiusError, match=f"count_clips is being written by process {os.getpid()} on"):
        second.before_node_run(step, catalog)
    first.after_pipeline_run()
    second.before_node_run(step, catalog)
    second.on_pipeline_error()
    first.before_node_run(step, catalog)
    first.after_pipeline_run()


def test_what_any_run_left_is_found_beside_outputs_in_the_store_and_in_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any pipeline that starts next removes them; folders beside a user's own files are left alone."""
    model, shard = tmp_path / "models/parallel", tmp_path / "store/of_encoder/shard-1.safetensors"
    work, own = tmp_path / "work", tmp_path / "mine/clips"
    left = [killed_while_writing(place) for place in (model, shard, work / "samples/serial", own)]
    catalog = DataCatalog(
        {
            "work": MemoryDataset(work),
            "trained": FolderDataset(filepath=str(model)),
            "latents": StoreDataset(filepath=str(tmp_path / "store"), holds="nothing.Here"),
            "clips": FolderDataset(filepath=str(own)),
        }
    )
    nodes = [node(len, "clips", name, name=name) for name in ("trained", "latents")]
    every = {"a": Pipeline(nodes[:1]), "b": Pipeline(nodes[1:])}
    monkeypatch.setattr("mobius_pipeline.hooks.pipelines", every)
    assert sorted(left_behind(catalog)) == sorted(left[:3])
    ProjectHooks().before_pipeline_run({"runtime_params": {}}, Pipeline([]), catalog)
    assert [path for path in left if path.exists()] == left[3:]


def test_what_a_later_step_lacks_stops_the_run_before_the_first(tmp_path: Path) -> None:
    missing = FolderDataset(filepath=str(tmp_path / "models/base"), made_by="base")
    catalog = DataCatalog({"work": MemoryDataset(tmp_path / "work"), "base": missing})
    chain = Pipeline([node(len, "work", "count"), node(max, ["count", "base"], "more")])
    with pytest.raises(DatasetError, match=r"no folder .*models/base\. Run `kedro run --pipelines=base`"):
        ProjectHooks().before_pipeline_run({"runtime_params": {}}, chain, catalog)
    made = Pipeline([node(len, "work", "base"), node(len, "base", "more")])
    ProjectHooks().before_pipeline_run({"runtime_params": {}}, made, catalog)


def test_kedro_mlflow_finds_nothing_to_read_here() -> None:
    """kedro-mlflow reads `mlflow*` of all environments, and refuses keys that it does not know."""
    conf = Path(settings.__file__).parents[2] / "conf"
    assert list(conf.glob("*/tracking.yml"))
    assert not list(conf.glob("**/mlflow*"))
    assert "mlflow" not in settings.CONFIG_LOADER_ARGS["config_patterns"]
