"""Test `compare` on trainings recorded in MLflow: seeds share a column, ladder widths do not."""

import json
import shutil
from pathlib import Path

import pytest

from copies import copied
from project import run

MODES = ("serial", "parallel")


def pipelines(*modes: str) -> str:
    return "--pipelines=" + ",".join(
        f"{step}_{mode}" for step in ("train", "sample", "evaluate") for mode in modes
    )


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with runs of both modes with two seeds each, and a run with a wider stream.

    The runs of the first seed are from a finished project, which was copied to another path.
    """
    folder = tmp_path_factory.mktemp("runs") / "project"
    copied(finished_project, folder, ignore=shutil.ignore_patterns(".git", "cache"))
    run(folder, "mobius", "relocate")
    run(folder, "kedro", "run", pipelines("parallel"), "--params=parallel.model.width=1.0")
    run(folder, "kedro", "run", pipelines(*MODES), "--params=train.seed=1")
    return folder


def compared(project: Path, *words: str) -> dict[str, list[int]]:
    """Return the seeds of each column of a comparison."""
    run(project, "kedro", "run", "--pipelines=compare", *words)
    comparison = json.loads((project / "data/08_reporting/comparison.json").read_text())
    return {label: column["seeds"] for label, column in comparison["columns"].items()}


def test_a_search_takes_every_training_that_it_finds(project: Path) -> None:
    found = compared(project, "--params=compare.filter=metrics.`eval/loss` > 0")
    assert found == {"serial": [0, 1], "parallel (width 0.375)": [0, 1], "parallel (width 1.0)": [0]}
    comparison = json.loads((project / "data/08_reporting/comparison.json").read_text())
    assert comparison["paired_step_times"]
    assert not comparison["fairness"]["same_draws"]  # one column lacks a seed
    assert comparison["columns"]["serial"]["ci95_half"]["heldout_loss"] > 0
    assert comparison["points"]["steps"]["against"]["parallel (width 0.375)"]["over"] == "seeds"
    assert comparison["points"]["steps"]["against"]["parallel (width 1.0)"]["over"] == "clips"
    narrow, wide = (comparison["columns"][f"parallel (width {width})"] for width in ("0.375", "1.0"))
    assert narrow["trainable_parameters"] < wide["trainable_parameters"]
    costs = json.loads((project / "data/08_reporting/costs.json").read_text())
    assert [row["training"] for row in costs] == list(found)
    page = (project / "data/08_reporting/comparison.html").read_text()
    assert page.count("data:video/mp4") == 3 * 4
    assert "Comparison of 3 trainings" in page
    assert str(project) not in page


def test_runs_are_taken_by_how_their_ids_begin_and_in_their_order(project: Path) -> None:
    comparison = json.loads((project / "data/08_reporting/comparison.json").read_text())
    narrow, serial = (
        comparison["columns"][label]["run_ids"][0] for label in ("parallel (width 1.0)", "serial")
    )
    assert compared(project, f"--params=compare.runs={narrow[:12]} {serial}") == {
        "parallel": [0],
        "serial": [0],
    }
