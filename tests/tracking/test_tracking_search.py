"""Find trainings by name or by search in a real store."""

from contextlib import suppress
from pathlib import Path

import pytest

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking


@pytest.fixture
def runs(tracked_project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Ids of two finished trainings of a DVC experiment, another finished one, and a failed one."""
    ids = {}
    for name, mode, experiment in (
        ("late", "parallel", "tart-quay"),
        ("first", "serial", "tart-quay"),
        ("other", "parallel", ""),
    ):
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
        with tracking.training_run(mode, params={"train": {"steps": 8}}, tags={}, inputs={}) as run:
            run.log_metrics({"eval/loss": 0.1 if name == "other" else 0.2})
            (tracked_project / name).write_text(name)
            run.log_artifact(tracked_project / name)
        ids[name] = run.id
    with suppress(ZeroDivisionError), tracking.training_run("serial", params={}, tags={}, inputs={}) as run:
        ids["failed"] = run.id
        _ = 1 / 0
    with tracking.comparison_run(params={}, tags={}):
        pass
    return ids


def found(names: list[str] | None, filter: str | None = None) -> list[str]:
    """Return the file names of the found runs, each of which has one file."""
    return [next(folder.iterdir()).name for folder in tracking.recorded_trainings(names, filter)]


@pytest.mark.usefixtures("runs")
def test_a_search_gives_finished_trainings_serial_first(caplog: pytest.LogCaptureFixture) -> None:
    assert found(None, "") == ["first", "late", "other"]
    assert "1 trainings that did not finish are left out" in caplog.text
    assert found(None, "metrics.`eval/loss` < 0.15") == ["other"]
    assert found(None, "params.mode = 'parallel'") == ["late", "other"]


def test_names_are_ids_their_beginnings_and_experiments(runs: dict[str, str]) -> None:
    assert found([runs["other"], "tart-quay"]) == ["other", "first", "late"]
    assert found([runs["late"][:10]]) == ["late"]


def test_what_fits_no_training_is_named(runs: dict[str, str]) -> None:
    with pytest.raises(MobiusError, match="'loud-moth' is neither one finished training nor a DVC"):
        found(["loud-moth"])
    with pytest.raises(MobiusError, match="neither one finished"):
        found([runs["failed"]])
    with pytest.raises(MobiusError, match=r"\(3 run ids begin with it: give more characters\)"):
        found([""])
    with pytest.raises(MobiusError, match=r"cannot search for 'metrics\.loss <'"):
        found(None, "metrics.loss <")


def test_without_a_project_no_run_is_known() -> None:
    with pytest.raises(MobiusError, match="No project is configured"):
        tracking.recorded_trainings([], None)


def test_a_run_s_page_is_named(tracked_project: Path) -> None:
    assert tracked_project.is_dir()
    assert tracking.run_page("abc") == "http://127.0.0.1:5000/#/experiments/1/runs/abc"
