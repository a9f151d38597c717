"""Test docs/ci/compare.yml: a valid GitHub workflow with few permissions, whose commands work."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from project import ROOT, TINY, environment, run

WORKFLOW = ROOT / "docs/ci/compare.yml"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return read


def commands(job: dict[str, Any]) -> dict[str, str]:
    """Return the steps of a job that run a command, by name."""
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def flat(mapping: dict[str, Any], above: str = "") -> dict[str, Any]:
    found = {}
    for key, value in mapping.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def test_it_fits_github_s_schema() -> None:
    run(ROOT, "check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW))


def test_zizmor_finds_no_weakness(tmp_path: Path) -> None:
    """Actions are pinned by commit; only GitHub's own may be pinned by major version."""
    config = {"rules": {"unpinned-uses": {"config": {"policies": {"actions/*": "ref-pin"}}}}}
    (tmp_path / "zizmor.yml").write_text(yaml.safe_dump(config))
    run(ROOT, "zizmor", "--offline", "--no-progress", "--config", str(tmp_path / "zizmor.yml"), str(WORKFLOW))


def test_a_pull_request_gets_no_more_rights_than_a_job_needs(jobs: dict[str, Any]) -> None:
    """Jobs that run a pull request's code cannot write; jobs that can write run no such code."""
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow[True] == {"pull_request": None}  # YAML reads `on` as true
    assert workflow["permissions"] == {}
    assert jobs["compare"]["permissions"] == {"contents": "read"}
    assert jobs["comment"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "head.repo.full_name == github.repository" in jobs["comment"]["if"]
    assert "secrets." not in WORKFLOW.read_text()
    assert all(job["timeout-minutes"] <= 60 for job in jobs.values())
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(re.search(r"@(v\d+|[0-9a-f]{40})$", step["uses"]) for step in steps if "uses" in step)
    checkouts = [step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert all(one["persist-credentials"] is False for one in checkouts)
    assert checkouts[-1]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert not any("${{" in command for job in jobs.values() for command in commands(job).values())


def test_its_chain_is_the_tiny_one(jobs: dict[str, Any]) -> None:
    option = r"-S '?conf/base/(\w+)\.yml:([\w.]+)=([^'\s]+)"
    given = re.findall(option, commands(jobs["compare"])["Run the tiny chain"])
    expected = {}
    for name, changes in TINY.items():
        file = name if name == "globals" else f"parameters_{name}"
        base = flat(yaml.safe_load((ROOT / f"conf/base/{file}.yml").read_text()))
        changed = flat(changes if name == "globals" else {name: changes})
        expected |= {(file, key): value for key, value in changed.items() if base[key] != value}
    assert {(file, key): yaml.safe_load(value) for file, key, value in given} == expected


def test_its_commands_make_the_comment(jobs: dict[str, Any], copied: Path, tmp_path: Path) -> None:
    """The project has already run the tiny chain, so nothing is trained again."""
    summary = tmp_path / "summary.md"
    steps = commands(jobs["compare"])
    printed = ""
    for name in ("Run the tiny chain", "Write the comment"):
        own = environment() | {"GITHUB_STEP_SUMMARY": str(summary), "CI": "true"}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", steps[name]],
            cwd=copied,
            env=own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        printed += done.stdout
    assert "Stage 'train@serial' didn't change, skipping" in printed
    comment = (copied / "comparison.md").read_text()
    assert summary.read_text() == comment
    for row in ("Peak memory", "Median step time", "Loss, equal steps", "Loss, equal compute"):
        assert re.search(rf"^\| {row} \|.*\d.*\|$", comment, re.MULTILINE)
    paths = [step.get("with", {}).get("path", "") for step in jobs["compare"]["steps"]]
    uploaded = next(path for path in paths if path.startswith("comparison.md"))
    assert all((copied / path).exists() for path in uploaded.split())


def test_what_needs_github_is_a_command(jobs: dict[str, Any]) -> None:
    for job in jobs.values():
        for command in commands(job).values():
            subprocess.run(["bash", "-n", "-c", command], check=True)
    run(ROOT, "make", "--dry-run", "INSTALLER=pip", ".venv/installed")
