"""Test DVC as a user does: stages that changes rerun, a kill, experiments, plots and a remote."""

import csv
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from copies import copied
from mobius_pipeline.runtime.files import read_json, write_json
from project import change, commit, finished, make_project, run, started

ALL = {"sample_data", "ingest", "validate", "base", "encode", "plan", "compare"} | {
    f"{name}@{mode}" for name in ("train", "sample", "evaluate") for mode in ("serial", "parallel")
}
FROM_VALIDATE = ALL - {"sample_data", "ingest"}
FROM_BASE = FROM_VALIDATE - {"validate"}
FROM_TRAIN = FROM_BASE - {"base", "encode", "plan"}
FROM_SAMPLE = FROM_TRAIN - {"train@serial", "train@parallel"}
NONE_YET = "none yet: dvc repro makes them"  # figures.json as committed in this repository
UP_TO_DATE = "Data and pipelines are up to date."


@pytest.fixture(scope="module")
def clone(finished_project: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A git clone of the finished project that shares its DVC cache."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    run(folder.parent, "git", "clone", "-q", str(finished_project), folder.name)
    run(folder, "dvc", "cache", "dir", "--local", str(finished_project / ".dvc/cache"))
    run(folder, "dvc", "checkout")
    empty_store(folder, mlflow_template)
    return folder


def empty_store(folder: Path, mlflow_template: Path) -> None:
    """Copy an empty MLflow database into a clone, because creating one takes seconds."""
    (folder / "mlruns").mkdir(exist_ok=True)
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")


@pytest.fixture
def changing(clone: Path) -> Iterator[Path]:
    """The clone, for tests that change it; it is restored afterwards."""
    yield clone
    run(clone, "git", "reset", "-q", "--hard")
    run(clone, "git", "clean", "-qfd")


@pytest.fixture
def running(changing: Path) -> Iterator[Path]:
    """The clone, for tests that run stages; its data are restored, too."""
    yield changing
    run(changing, "git", "reset", "-q", "--hard")
    run(changing, "dvc", "checkout", "--force")


def due(folder: Path) -> set[str]:
    """Return the stages that DVC would run: the changed ones and all downstream of them."""
    import networkx
    from dvc.repo import Repo

    with chdir(folder), Repo() as repo:
        changed = set(repo.status())
        graph = repo.index.graph
        below = (networkx.ancestors(graph, stage) for stage in graph if stage.addressing in changed)
        return changed | {stage.addressing for stages in below for stage in stages}


def ran(said: str) -> list[str]:
    """Return the stages that `dvc repro` ran."""
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage '")]


def parameter(pipeline: str, changes: dict[str, Any]) -> Callable[[Path], None]:
    return lambda project: change(project / f"conf/base/parameters_{pipeline}.yml", changes)


def source(name: str) -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        path = project / "src/mobius_pipeline" / name
        path.write_text(path.read_text() + "# changed\n")

    return edit


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "nothing": (lambda project: None, set()),
    "learning rate": (parameter("train", {"train": {"optimizer": {"learning_rate": 1e-4}}}), FROM_TRAIN),
    "batch size": (parameter("train", {"train": {"batch_size": 4}}), FROM_TRAIN | {"plan"}),
    "one mode": (
        parameter("train", {"parallel": {"model": {"width": 0.5}}}),
        {"plan", "train@parallel", "sample@parallel", "evaluate@parallel", "compare"},
    ),
    "prompt": (parameter("sample", {"sample": {"prompts": ["a red ring"]}}), FROM_SAMPLE),
    "threshold": (parameter("validate", {"validate": {"fps": {"max": 120}}}), FROM_VALIDATE),
    "autoencoder": (parameter("base", {"base": {"autoencoder": {"kl_weight": 0.01}}}), FROM_BASE),
    "own T2I model": (
        lambda project: change(project / "conf/base/globals.yml", {"base_model": "conf"}),
        FROM_BASE,
    ),
    "clip format": (
        lambda project: change(project / "conf/base/globals.yml", {"clip": {"fps": 4}}),
        ALL - {"sample_data"},
    ),
    "rendering": (source("sources/scenes.py"), ALL),
    "expectations": (source("validation/expectations.py"), FROM_VALIDATE),
    "encoding": (source("latents/update.py"), FROM_TRAIN | {"encode"}),
    "serial, whose compute parallel may spend": (
        parameter("train", {"serial": {"model": {"checkpoint_temporal": True}}}),
        FROM_TRAIN | {"plan"},
    ),
    "planning": (source("planning/report.py"), {"plan"}),
    "predicting": (source("planning/predict.py"), FROM_TRAIN | {"plan"}),
    "trainer": (source("training/trainer.py"), FROM_TRAIN),
    "sampling": (source("sampling/sample.py"), FROM_SAMPLE),
    "report": (source("comparison/report.py"), {"compare"}),
    "tracking": (source("tracking/sink.py"), set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_due_what_depends_on_it(name: str, changing: Path) -> None:
    make, stages = CHANGES[name]
    make(changing)
    assert due(changing) == stages


@pytest.mark.parametrize("where", ["in the project", "elsewhere"])
def test_own_clips_are_watched(where: str, changing: Path, tmp_path: Path) -> None:
    """A clip is added, or a caption edited, in the folder set as `clips`."""
    named = "my clips" if where == "in the project" else str(tmp_path / "my clips")
    mine = changing / named
    shutil.copytree(changing / "data/01_raw/clips", mine)
    change(changing / "conf/base/globals.yml", {"clips": named})
    run(changing, "dvc", "commit", "--force")  # as if it had run on them
    assert due(changing) == set()
    clip = next(mine.glob("*.mp4"))
    shutil.copy(clip, mine / "another.mp4")
    assert due(changing) == ALL - {"sample_data"}
    (mine / "another.mp4").unlink()
    assert due(changing) == set()
    captions = mine / "captions.csv"
    captions.write_text(captions.read_text().replace("a ", "one ", 1))
    assert due(changing) == ALL - {"sample_data"}


@pytest.mark.parametrize("where", ["in the project", "elsewhere"])
def test_an_own_model_is_watched(where: str, changing: Path, tmp_path: Path) -> None:
    """The weights in the folder set as `base_model` change."""
    named = "my model" if where == "in the project" else str(tmp_path / "my model")
    mine = changing / named
    copied(changing / "data/06_models/base", mine)
    change(changing / "conf/base/globals.yml", {"base_model": named})
    run(changing, "dvc", "commit", "--force")  # as if it had run on it
    assert due(changing) == set()
    (weights,) = (mine / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert due(changing) == FROM_BASE


def test_stops_where_nothing_came_out_different(running: Path) -> None:
    """Every clip passes the new threshold, so the manifest is the same and nothing is trained again."""
    change(running / "conf/base/parameters_validate.yml", {"validate": {"fps": {"max": 120}}})
    assert ran(run(running, "dvc", "repro")) == ["validate"]
    assert UP_TO_DATE in run(running, "dvc", "repro")


def newest_step(folder: Path, mode: str) -> int:
    """Return the step of a mode's newest checkpoint; 0 without one."""
    return max((int(path.name[5:]) for path in folder.glob(f"data/.work/*/{mode}/step-*")), default=0)


def stopped_after(folder: Path, step: int, number: signal.Signals) -> None:
    """Start `dvc repro` and signal all its processes once there is a checkpoint after `step`."""
    process = started(folder, "dvc", "repro", "--single-item", "train@parallel")
    while newest_step(folder, "parallel") <= step:
        assert process.running()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    assert process.wait(120)[0] != 0


def losses(folder: Path) -> list[Any]:
    metrics = read_json(folder / "data/06_models/parallel/metrics.json")
    return [*(row[:2] for row in metrics["history"]["loss"]), metrics["heldout_loss"]]


def test_a_training_that_was_stopped_goes_on(running: Path) -> None:
    """The first stop is a kill, the second Ctrl-C. DVC sees each time that the stage is not done."""
    longer = {
        "train": {
            "steps": 60,
            "equal_compute": False,
            "checkpoint_every": 2,
            "evaluate_every": 60,
            "previews": None,
        }
    }
    change(running / "conf/base/parameters_train.yml", longer)
    stopped_after(running, 0, signal.SIGKILL)
    killed_at = newest_step(running, "parallel")
    assert "train@parallel" in due(running)
    stopped_after(running, killed_at, signal.SIGINT)
    stopped_at = newest_step(running, "parallel")
    assert 0 < killed_at < stopped_at < 60
    assert "train@parallel" in due(running)
    said = " ".join(run(running, "dvc", "repro", "--single-item", "train@parallel").split())
    assert f"Resuming from step {stopped_at} of 60" in said
    assert "train@parallel" not in due(running)
    stopped = losses(running)
    shutil.rmtree(running / "data/.work")
    run(running, "kedro", "run", "--pipelines=train_parallel")
    assert losses(running) == stopped


def quietly(folder: Path, *words: str) -> str:
    """Run a command that must not print a warning."""
    done = finished(folder, *words)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if "WARNING" in line or "ERROR" in line] == []
    return done.stdout


def test_queued_experiments(running: Path) -> None:
    """Queue experiments with two widths; DVC compares them, and MLflow has their runs in the project."""
    import mlflow

    recording = running / "src/mobius_pipeline/pipelines/train/recording.py"
    recording.write_text(recording.read_text().replace("tags={", 'tags={"edited": "yes", '))
    width = "conf/base/parameters_train.yml:parallel.model.width=1.0,0.125"
    short = "conf/base/parameters_train.yml:train.equal_compute=false"
    quietly(running, "dvc", "exp", "run", "--queue", "-S", width, "-S", short, "evaluate@parallel")
    run(running, "git", "checkout", "-q", "src")
    quietly(running, "dvc", "exp", "run", "--run-all")
    assert run(running, "git", "status", "--porcelain") == ""

    names = quietly(running, "dvc", "exp", "list", "--name-only").split()
    assert len(names) == 2
    client = mlflow.MlflowClient(f"sqlite:///{running / 'mlruns/mlflow.db'}")
    tagged = client.search_runs(["1"], filter_string="tags.`dvc.experiment` LIKE '%'")
    runs = {run.info.run_name: run for run in tagged}
    assert set(runs) == {f"parallel ({name})" for name in names}
    baseline = run(running, "git", "rev-parse", "HEAD").strip()
    widths = set()
    for name in names:
        recorded = runs[f"parallel ({name})"]
        assert recorded.info.status == "FINISHED"
        assert recorded.data.tags.items() >= {
            ("dvc.experiment", name),
            ("dvc.revision", baseline),
            ("mlflow.source.git.commit", baseline),
            ("edited", "yes"),
        }
        assert client.list_artifacts(recorded.info.run_id, "samples")
        widths.add(recorded.data.params["model.width"])
        differing = json.loads(quietly(running, "dvc", "params", "diff", "--json", "HEAD", name))
        (options,) = differing.values()
        assert options["parallel.model.width"]["old"] == 0.375
        measured = json.loads(quietly(running, "dvc", "metrics", "diff", "--json", "HEAD", name))
        (figures,) = measured.values()
        wider = recorded.data.params["model.width"] == "1.0"
        assert (figures["parallel.peak_gib"]["diff"] > 0) == wider
    assert widths == {"1.0", "0.125"}

    table = quietly(running, "dvc", "exp", "show", "--csv")
    assert all(name in table for name in names)
    quietly(running, "dvc", "plots", "diff", "HEAD", *names, "--out", "dvc_plots")
    page = (running / "dvc_plots/index.html").read_text()
    assert '"Training loss"' in page
    assert '"Held-out loss"' in page
    assert '"title": "Peak memory"' in page
    assert '"title": "Median step time"' in page
    assert page.count('parallel_grid.png"') == 3  # the baseline's and each width's


def test_a_fresh_clone_shows_the_figures_that_decide(
    finished_project: Path, browser: Any, artifacts: Path, tmp_path: Path
) -> None:
    """No data are needed, because the values are in git; the plots page states what it lacks offline."""
    run(tmp_path, "git", "clone", "-q", str(finished_project), "project")
    project = tmp_path / "project"
    shown = json.loads(quietly(project, "dvc", "metrics", "show", "--json"))[""]["data"]
    rows = {Path(path).parent.name: row["data"] for path, row in shown.items()}
    decides = {"peak_gib", "step_s", "loss_at_steps", "loss", "match"}
    assert {mode: set(row[mode]) for mode, row in rows.items()} == dict.fromkeys(
        ("serial", "parallel"), decides
    )
    experiments = list(csv.DictReader(quietly(project, "dvc", "exp", "show", "--csv").splitlines()))
    assert [row for row in experiments if "!" in row.values()] == []
    assert {f"{mode}.{name}" for mode in rows for name in decides} <= set(experiments[0])
    run(project, "dvc", "cache", "dir", "--local", str(finished_project / ".dvc/cache"))
    quietly(project, "dvc", "checkout")
    quietly(project, "dvc", "plots", "show")
    page = opened_plots(browser, project)
    (note,) = page.get_by_role("note").all_inner_texts()  # hidden ones have no role
    assert "cdn.jsdelivr.net" in note
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.screenshot(path=artifacts / "dvc-plots.png")
    page.close()


def opened_plots(browser: Any, project: Path) -> Any:
    """Open the page of `dvc plots` without internet access."""
    page = browser.new_page()
    page.route("https://**", lambda route: route.abort())
    page.goto((project / "dvc_plots/index.html").as_uri())
    return page


def test_a_clone_without_results_says_which_command_makes_them(
    mlflow_template: Path, browser: Any, tmp_path: Path
) -> None:
    """No table has a "!" (an error), and the plots page states what is missing."""
    make_project(tmp_path / "origin", mlflow_template)
    for mode in ("serial", "parallel"):
        figures = tmp_path / f"origin/data/08_reporting/{mode}/figures.json"
        figures.parent.mkdir(parents=True)
        write_json(figures, {mode: NONE_YET})
    run(tmp_path / "origin", "git", "init", "-q", "-b", "main")
    commit(tmp_path / "origin", "A project")
    run(tmp_path, "git", "clone", "-q", "origin", "project")
    project = tmp_path / "project"

    assert quietly(project, "dvc", "metrics", "show").count(NONE_YET) == 2
    assert quietly(project, "dvc", "metrics", "diff") == quietly(project, "dvc", "params", "diff") == ""
    for row in csv.DictReader(quietly(project, "dvc", "exp", "show", "--csv").splitlines()):
        assert row["serial"] == row["parallel"] == NONE_YET
        assert "!" not in row.values()
    quietly(project, "dvc", "status")
    quietly(project, "dvc", "plots", "show")
    page = opened_plots(browser, project)
    notes = " ".join(page.get_by_role("note").all_inner_texts())
    page.close()
    assert "of training_loss, heldout_loss, peak_memory, step_time: dvc repro makes it" in notes
    assert "no sampled videos here: dvc repro makes them" in notes


def test_goes_through_a_remote(finished_project: Path, tmp_path: Path, mlflow_template: Path) -> None:
    """After a push from one clone and a pull into another, all data are there and no stage has to run."""
    here, there = tmp_path / "here", tmp_path / "there"
    run(tmp_path, "git", "clone", "-q", str(finished_project), "here")
    run(here, "dvc", "cache", "dir", "--local", str(finished_project / ".dvc/cache"))
    quietly(here, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    commit(here, "A remote")
    quietly(here, "dvc", "push")
    run(tmp_path, "git", "clone", "-q", str(here), "there")
    quietly(there, "dvc", "pull")
    assert UP_TO_DATE in quietly(there, "dvc", "repro")
    assert run(there, "git", "status", "--porcelain") == ""
    empty_store(there, mlflow_template)
    run(there, "kedro", "run", "--pipelines=sample_parallel")
    assert due(there) == set()  # the same videos, byte by byte
