"""Test the DAG that `kedro airflow create` writes: its tasks, their commands and their order."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.framework.project import pipelines

from in_process import kedro
from mobius_pipeline.pipeline_registry import CHAIN
from mobius_pipeline.pipelines.modes import MODES
from mobius_pipeline.runtime.errors import MobiusError
from project import make_project

STEPS = [f"{mode}.{step}" for mode in MODES for step in ("train", "sample", "evaluate")]
# One task per node that writes files; nodes of `compare` that pass data in memory share one.
WAITS_FOR = {
    "render_sample_clips": set(),
    "ingest_clips": {"render_sample_clips"},
    "make_manifest": {"ingest_clips"},
    "make_base": {"make_manifest"},
    "encode_clips": {"make_base"},
    "plan_training": {"make_base"},
    **{f"{mode}.train": {"encode_clips"} for mode in MODES},
    **{f"{mode}.sample": {f"{mode}.train"} for mode in MODES},
    **{f"{mode}.evaluate": {f"{mode}.sample"} for mode in MODES},
    "compare": {f"{mode}.evaluate" for mode in MODES},
    "report": {"compare"},
}


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path) -> Path:
    make_project(tmp_path / "project", mlflow_template)
    return tmp_path / "project"


def created(project: Path, *words: str, file: str = "mobius_pipeline_dag.py") -> ast.Module:
    template = "--jinja-file=deploy/airflow_dag.py.j2"
    kedro(project, "airflow", "create", "--group-by=memory", template, "--target-dir=airflow_dags", *words)
    return ast.parse((project / "airflow_dags" / file).read_text())


def tasks(dag: ast.Module) -> dict[str, tuple[list[str], bool]]:
    """Return the command of each task, and whether it is a GPU task."""
    calls = [node for node in ast.walk(dag) if isinstance(node, ast.Call) and named(node.func) == "kedro"]
    runs = [[argument.value for argument in call.args] for call in calls]  # type: ignore[attr-defined]
    return {nodes[-1]: (nodes, bool(call.keywords)) for nodes, call in zip(runs, calls, strict=True)}


def waits_for(dag: ast.Module) -> dict[str, set[str]]:
    """Return the tasks that each task waits for, from lines `tasks["a"] >> tasks["b"]`."""
    found: dict[str, set[str]] = {name: set() for name in tasks(dag)}
    for node in ast.walk(dag):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
            before, after = (side.slice.value for side in (node.left, node.right))  # type: ignore[attr-defined]
            found[after].add(before)
    return found


def constants(dag: ast.Module) -> dict[str, Any]:
    assigned = [node for node in dag.body if isinstance(node, ast.Assign)]
    return {named(node.targets[0]): ast.literal_eval(node.value) for node in assigned}


def named(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def test_a_task_a_step_in_the_order_of_the_pipelines(project: Path) -> None:
    dag = created(project)
    assert waits_for(dag) == WAITS_FOR
    whole = pipelines["__default__"]
    assert sorted(node for nodes, _ in tasks(dag).values() for node in nodes) == sorted(
        node.name for name in CHAIN for node in pipelines[name].nodes
    )
    tagged = {node.name for node in whole.only_nodes_with_tags("gpu").nodes}
    assert {name for name, (_, gpu) in tasks(dag).items() if gpu} == tagged
    # Every task waits, directly or through others, for the tasks that make its inputs.
    for node, parents in whole.node_dependencies.items():
        task = task_of(dag, node.name)
        assert {task_of(dag, parent.name) for parent in parents} - {task} <= before(dag, task)


def task_of(dag: ast.Module, node: str) -> str:
    return next(task for task, (nodes, _) in tasks(dag).items() if node in nodes)


def before(dag: ast.Module, task: str) -> set[str]:
    """Return all tasks that have ended before `task` starts."""
    direct = waits_for(dag)[task]
    return direct.union(*(before(dag, one) for one in direct))


def test_what_steps_hand_on_in_memory_stays_in_one_process(project: Path) -> None:
    dag = created(project)
    shared = [nodes for nodes, _ in tasks(dag).values() if len(nodes) > 1]
    assert shared == [
        [
            "choose_trainings",
            "measure_references",
            "summarize_data",
            "time_steps",
            "write_real_videos",
            "compare",
        ]
    ]


def test_an_environment_and_a_pipeline_have_a_dag_of_their_own(project: Path) -> None:
    dag = created(project, "--env=emoji", "--pipelines=study", file="mobius_pipeline_emoji_study_dag.py")
    text = ast.unparse(dag)
    assert "dag_id='mobius-pipeline-emoji-study'" in text
    assert "--env=emoji --pipelines=study" in text
    assert waits_for(dag) == {"run_study": set(), "draw_study": {"run_study"}}


def test_an_environments_settings_replace_one_by_one(project: Path) -> None:
    local = project / "conf/local/airflow.yml"
    local.write_text(
        yaml.safe_dump({"default": {"gpu_tasks_with": {"pool": "gpu"}, "dag": {"schedule": "@daily"}}})
    )
    dag = created(project)
    assert constants(dag)["GPU"] == {"pool": "gpu"}
    assert constants(dag)["TASKS"] == {"retries": 2, "retry_delay": 120.0}
    assert "'schedule': '@daily'" in ast.unparse(dag)
    assert "'max_active_runs': 1" in ast.unparse(dag)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"default": {"gpu_task_with": {"pool": "gpu"}}}, "section default.*gpu_task_with"),
        ({"default": {"dag": None}}, "section default.*dag"),
        ({"study": {"kedro": 3}}, "section study.*kedro"),
        ({"studdy": {"dag": {}}}, "studdy is not a pipeline"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(project: Path, settings: dict[str, Any], said: str) -> None:
    (project / "conf/local/airflow.yml").write_text(yaml.safe_dump(settings))
    with pytest.raises(MobiusError, match=f"(?s)conf/base/airflow.yml.*{said}"):
        created(project)
