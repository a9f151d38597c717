"""Test the command `mobius plan`."""

import json
from pathlib import Path

import pytest
from test_pipeline import UNET, write_base

from mobius_pipeline.cli import main
from mobius_pipeline.tracking import api as tracking

pytestmark = pytest.mark.slow

SIZES = ["--frames", "2", "--height", "16", "--width", "32", "--batch", "1", "--text-tokens", "5"]


@pytest.fixture(autouse=True)
def outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracking.reset()


def test_a_plan_of_a_model_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "base"
    base.mkdir()
    output = tmp_path / "plan.json"
    words = ["plan", "--config", str(write_base(base)), *SIZES, "--memory", "2", "--output", str(output)]
    assert main(words) == 0
    plan = json.loads(output.read_text())
    assert plan["step"] == {"batch": 1, "frames": 2, "height": 4, "width": 8, "tokens": 5, "parts": 1}
    assert plan["largest"]["modes"]["parallel"]["batch"] > 1
    shown = capsys.readouterr().out
    assert "No VAE" not in shown
    assert "parallel checkpoint_temporal" in shown
    tables = [line for line in shown.splitlines() if line.startswith(("│", "┃"))]
    assert tables
    assert not any("…" in line for line in tables)  # nothing is cut at 100 columns
    assert not (tmp_path / "mlruns").exists()


def test_a_lone_config_is_planned_at_eight_pixels_a_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Smaller clips are refused before anything is predicted."""
    config = tmp_path / "unet.json"
    config.write_text(json.dumps(UNET))
    assert main(["plan", "--config", str(config), *SIZES, "--height", "7"]) == 1
    shown = capsys.readouterr()
    assert "assuming 8 px" in shown.out
    assert "7 x 32 px is below one latent cell of 8 px" in shown.err


@pytest.mark.parametrize(
    ("content", "says"), [(None, "Cannot read"), ("[1]", "not a JSON object"), ("{}", "its class is None")]
)
def test_a_bad_configuration_is_named(
    content: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "unet.json"
    if content is not None:
        config.write_text(content)
    assert main(["plan", "--config", str(config), *SIZES, "--output", str(tmp_path / "plan.json")]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert str(config) in error
