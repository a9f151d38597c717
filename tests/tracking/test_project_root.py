"""Runs are recorded in the project, even if DVC runs them in a copy."""

from pathlib import Path

import pytest

from mobius_pipeline.tracking.project_root import project_root


@pytest.mark.parametrize(
    ("at", "records"),
    [
        ("project", "project"),
        ("project/.dvc/tmp/exps/tmpa1b2c3", "project"),
        ("project/.dvc/tmp/exps/standalone/tmpa1b2c3", "project"),
        ("project/examples/another", "project/examples/another"),
        ("elsewhere", "elsewhere"),
    ],
)
def test_a_queued_experiment_records_in_the_project(
    at: str, records: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    assert project_root(tmp_path / at) == tmp_path / records


def test_without_dvc_a_project_records_in_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert project_root(tmp_path) == tmp_path
