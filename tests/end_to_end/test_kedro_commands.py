"""Test Kedro's own commands on this project, as its documentation shows them."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

import in_process
from mobius_pipeline.runtime.errors import MobiusError
from project import make_project

Kedro = Callable[..., str]
MODES = ("serial", "parallel")
COMPARE = (
    "choose_trainings",
    "measure_references",
    "summarize_data",
    "time_steps",
    "write_real_videos",
    "compare",
    "report",
)
CHAIN = [
    "render_sample_clips",
    "ingest_clips",
    "make_manifest",
    "make_base",
    "encode_clips",
    "plan_training",
    *(f"{mode}.{step}" for step in ("train", "sample", "evaluate") for mode in MODES),
    *COMPARE,
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    make_project(folder, mlflow_template)
    for path in (*outs(folder), folder / "elsewhere"):  # a run first checks that its inputs exist
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    return folder


def outs(folder: Path) -> Iterator[Path]:
    """Return the outputs of dvc.yaml's stages."""
    for stage in yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].values():
        for mode in stage.get("matrix", {}).get("mode", [""]):
            for out in (*stage["outs"], *stage.get("metrics", []), *stage.get("plots", [])):
                name = next(iter(out)) if isinstance(out, dict) else out
                yield folder / name.replace("${item.mode}", mode)


@pytest.fixture
def kedro(project: Path) -> Kedro:
    """Run a Kedro command in the project; return its output."""
    return partial(in_process.kedro, project)


def dry_run(kedro: Kedro, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return the nodes that `kedro run` would run, and its inputs: parameters as text, datasets as paths."""
    printed = kedro("run", "--runner=dry_runner.DryRunner", *words)
    lines = [line.split(" ", 1) for line in printed.splitlines()]
    nodes = [name for word, name in lines if word == "node"]
    return nodes, {word: name for word, name in lines if word != "node"}


def test_registry_tells_pipelines_and_nodes(kedro: Kedro) -> None:
    listed = yaml.safe_load(kedro("registry", "list"))
    assert {"__default__", "fetch", "train_serial", "evaluate_parallel", "compare"} <= set(listed)
    assert yaml.safe_load(kedro("registry", "describe", "compare")) == {
        "Nodes": [f"{name} ({name})" for name in COMPARE]
    }


def test_catalog_tells_patterns_datasets_and_their_files(kedro: Kedro, project: Path) -> None:
    of_a_mode = ("loss_curve", "metrics", "samples", "trained")
    patterns = yaml.safe_load(kedro("catalog", "list-patterns"))
    assert {f"{{mode}}.{name}" for name in of_a_mode} <= set(patterns)
    described = yaml.safe_load(kedro("catalog", "describe-datasets", "--pipeline=evaluate_serial"))
    kinds = described["evaluate_serial"]
    assert kinds["defaults"] == {}  # no dataset that the catalog does not name
    from_patterns = {name for names in kinds["factories"].values() for name in names}
    assert {f"serial.{name}" for name in of_a_mode} <= from_patterns
    resolved = yaml.safe_load(kedro("catalog", "resolve-patterns", "--pipeline=sample_parallel"))
    paths = {
        name: Path(entry["filepath"]).relative_to(project).as_posix() for name, entry in resolved.items()
    }
    assert paths["parallel.samples"] == "data/07_model_output/parallel"
    assert paths["real_videos"] == "data/07_model_output/real"


@pytest.mark.parametrize(
    ("words", "nodes"),
    [
        ([], CHAIN),
        (["--tags=gpu"], [*CHAIN[3:5], *CHAIN[6:10]]),
        (["--tags=report"], CHAIN[10:]),
        (["--tags=serial"], ["serial.train", "serial.sample", "serial.evaluate"]),
        (["--namespaces=parallel"], ["parallel.train", "parallel.sample", "parallel.evaluate"]),
        (["--from-nodes=encode_clips", "--to-nodes=serial.train"], ["encode_clips", "serial.train"]),
        (["--pipelines=encode,train_serial"], ["encode_clips", "serial.train"]),
        (["--to-outputs=manifest"], CHAIN[:3]),
    ],
)
def test_run_takes_a_part_of_the_chain(kedro: Kedro, words: list[str], nodes: list[str]) -> None:
    assert sorted(dry_run(kedro, *words)[0]) == sorted(nodes)


def test_run_takes_parameters(kedro: Kedro) -> None:
    given = "--params=train.steps=5,clips=elsewhere,parallel.model.width=0.5"
    _, inputs = dry_run(kedro, "--from-nodes=ingest_clips", given)
    assert Path(inputs["raw_clips@source"]).name == "elsewhere"
    assert re.search(r"\bsteps=5\b", inputs["params:train"])
    assert "width=0.5" in inputs["params:parallel.model"]
    assert "width=0.0" in inputs["params:serial.model"]


def test_run_takes_an_environment(kedro: Kedro, project: Path) -> None:
    nodes, inputs = dry_run(kedro, "--env=emoji", "--pipelines=fetch,ingest")
    assert nodes == ["fetch_clips", "ingest_clips"]
    assert "fluent-emoji-anim-1" in inputs["params:fetch"]
    assert "height=64" in inputs["params:clip"]
    resolved = yaml.safe_load(kedro("catalog", "resolve-patterns", "--env=emoji", "--pipeline=fetch"))
    assert resolved["latents"]["filepath"] == f"{project}/data/emoji/05_model_input/latents"


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ("tarin.steps=3", "tarin.steps. Did you mean train.steps?"),
        ("train.stepz=3", "train.stepz. Did you mean train.steps?"),
        ("parallel.modle.width=0.5", "parallel.modle.width. Did you mean parallel.model"),
        ("train.steps=3", "train.steps. It reads base_model, clips, sample_data,"),
    ],
)
def test_a_parameter_that_nothing_reads_is_refused(kedro: Kedro, given: str, refusal: str) -> None:
    with pytest.raises(MobiusError, match=re.escape(f"nothing in this run reads {refusal}")):
        dry_run(kedro, "--pipelines=sample_data", f"--params=clips=data/01_raw/clips,{given}")


def test_a_wrong_parameter_is_named_without_a_traceback(project: Path) -> None:
    words = ["run", "--pipelines=sample_data", "--params=sample_data.clipz=3"]
    done = subprocess.run(
        [sys.executable, "-m", "kedro", *words], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1
    end = done.stderr[done.stderr.index("mobius: Parameter validation failed") :]
    assert "sample_data" in end
    assert "clipz\n  Extra inputs are not permitted" in end
    assert "Traceback" not in done.stdout + done.stderr
