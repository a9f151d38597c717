"""Test the generated DAG in a real Airflow, whose environment does not have the project installed."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import yaml
from airflow_server import BIN, Airflow, until

from in_process import kedro
from mobius_pipeline.pipelines.modes import MODES
from project import change, make_project

pytestmark = pytest.mark.airflow
DAG = "/dags/mobius-pipeline"
LOADED = """if True:
    import json
    from importlib.util import find_spec
    from airflow import __version__
    from airflow.dag_processing.dagbag import DagBag
    found = DagBag()
    tasks = {task.task_id: [task.pool, task.retries] for dag in found.dags.values() for task in dag.tasks}
    ours = [find_spec(name) is not None for name in ("kedro", "mobius_pipeline")]
    print(json.dumps([__version__, ours, found.import_errors, sorted(found.dags), tasks]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A tiny project with a separate environment, as `make` creates it."""
    assert (BIN / "airflow").exists(), "make test-airflow installs Airflow"
    folder = tmp_path_factory.mktemp("orchestrated") / "my project"
    make_project(folder, mlflow_template)
    own = folder / ".venv/bin/kedro"
    own.parent.mkdir(parents=True)
    own.write_text(f'#!/bin/sh\nexec {sys.executable} -m kedro "$@"\n')
    own.chmod(0o755)
    soon = {"default": {"tasks_with": {"retry_delay": 1.0}}}
    (folder / "conf/local/airflow.yml").write_text(yaml.safe_dump(soon))
    words = ["--group-by=memory", "--jinja-file=deploy/airflow_dag.py.j2", "--target-dir=airflow_dags"]
    kedro(folder, "airflow", "create", *words)
    return folder


@pytest.fixture(scope="module")
def airflow(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"), project / "airflow_dags", project)


@pytest.fixture(scope="module")
def serving(airflow: Airflow) -> Iterator[Airflow]:
    with airflow.serving():
        until(lambda: airflow.ask("/dags")["total_entries"] == 1)
        airflow.ask(DAG, {"is_paused": False}, "PATCH")
        yield airflow


def test_it_loads_without_the_project(airflow: Airflow) -> None:
    version, ours, errors, dags, tasks = json.loads(airflow.python(LOADED).splitlines()[-1])
    assert version.startswith("3.")
    assert not any(ours)
    assert (errors, dags) == ({}, ["mobius-pipeline"])
    assert len(tasks) == 14
    assert all(task == ["default_pool", 2] for task in tasks.values())


def test_the_chain_runs_and_a_killed_training_goes_on(serving: Airflow, project: Path) -> None:
    """Both modes train at the same time; serial's first attempt is killed after its first checkpoint."""
    serving.ask(f"{DAG}/dagRuns", {"dag_run_id": "whole", "logical_date": None}, "POST")
    until(lambda: bool(checkpoints(project, "serial")) or failed(serving))
    killed_at = max(checkpoints(project, "serial"))
    os.kill(process_of(project, "serial.train"), signal.SIGKILL)
    until(lambda: serving.ask(f"{DAG}/dagRuns/whole")["state"] == "success" or failed(serving))

    tasks = instances(serving)
    assert {task["state"] for task in tasks.values()} == {"success"}, tasks
    assert [name for name, task in tasks.items() if task["try_number"] > 1] == ["serial.train"]
    (went_on,) = re.findall(r"Resuming from step (\d+)", log_of(serving, "serial.train", 2))
    assert int(went_on) >= killed_at
    tried = serving.ask(f"{DAG}/dagRuns/whole/taskInstances/serial.train/tries")["task_instances"]
    first = tried[0]
    assert first["start_date"] < tasks["parallel.train"]["end_date"]
    assert tasks["parallel.train"]["start_date"] < first["end_date"]
    runs = trainings(project)
    assert sorted(run.info.run_name for run in runs) == sorted(MODES)  # the killed training continued its run
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert (project / "data/08_reporting/comparison.html").stat().st_size > 0


def test_a_training_that_is_marked_failed_ends_as_killed_and_goes_on_when_cleared(
    serving: Airflow, project: Path
) -> None:
    """Run after the chain: with other settings it trains again, longer than Airflow takes to stop it."""
    changes = {"steps": 200, "previews": None, "checkpoint_every": 1, "evaluate_every": 200}
    change(project / "conf/base/parameters_train.yml", {"train": changes})
    before = checkpoints(project, "serial")
    task = f"{DAG}/dagRuns/whole/taskInstances/serial.train"
    clear(serving, "serial.train")
    until(lambda: len(checkpoints(project, "serial") - before) > 0 or failed(serving))
    serving.ask(task, {"new_state": "failed"}, "PATCH")
    until(lambda: not processes(project, "serial.train"))
    newest = max(trainings(project), key=lambda run: run.info.start_time)
    assert newest.info.status == "KILLED"
    assert not list(project.glob("data/**/.*.partial"))

    clear(serving, "serial.train")
    until(lambda: instances(serving)["serial.train"]["state"] in ("success", "failed"))
    assert instances(serving)["serial.train"]["state"] == "success"
    again = max(trainings(project), key=lambda run: run.info.start_time)
    assert (again.info.run_id, again.info.status) == (newest.info.run_id, "FINISHED")


def instances(airflow: Airflow) -> dict[str, Any]:
    """Return the run's tasks by name: state, number of the attempt, start and end."""
    found = airflow.ask(f"{DAG}/dagRuns/whole/taskInstances")["task_instances"]
    return {task["task_id"]: task for task in found}


def log_of(airflow: Airflow, task: str, attempt: int) -> str:
    """Return the log of one attempt of a task."""
    place = f"{DAG}/dagRuns/whole/taskInstances/{task}/logs/{attempt}?full_content=true"
    return "\n".join(line["event"] for line in airflow.ask(place)["content"])


def failed(airflow: Airflow) -> bool:
    lost = [
        name for name, task in instances(airflow).items() if task["state"] in ("failed", "upstream_failed")
    ]
    assert not lost, f"{lost}: see {airflow.home}/logs"
    return False


def clear(airflow: Airflow, task: str) -> None:
    about = {"dag_run_id": "whole", "task_ids": [task], "only_failed": False, "include_downstream": False}
    airflow.ask(f"{DAG}/clearTaskInstances", {**about, "dry_run": False, "reset_dag_runs": True}, "POST")


def checkpoints(project: Path, mode: str) -> set[int]:
    """Return the steps of complete checkpoints."""
    found = project.glob(f"data/.work/*/{mode}/step-*/manifest.json")
    return {int(path.parent.name.partition("-")[2]) for path in found}


def processes(project: Path, node: str) -> list[int]:
    """Return the processes in the project's folder that run a node."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"--nodes={node}" in process.cmdline() and Path(process.cwd()) == project:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def process_of(project: Path, node: str) -> int:
    (found,) = processes(project, node)
    return found


def trainings(project: Path) -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("mobius")
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name in MODES]
