"""Test `mobius plan`'s options: which combine, what a project provides, and the plan of an encoding."""

import json
import re
import shlex
from pathlib import Path

import pytest
from test_pipeline import write_base

from mobius_pipeline.cli import main
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.sources.scenes import render, scenes

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "examples/modelscope")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpus", "8"], "--gpus is for --clips"),
        (["--price-per-gb-month", "1"], "--price-per-gb-month is for --clips"),
        (["--clips", "5", "--steps", "9"], "--steps is for a training"),
        (["--tflops", "1", "2", "3"], "give both, or neither"),
        (["--bandwidth", "1"], "give both, or neither"),
        (["--device", "L40S", "--tflops", "1", "2", "3", "--bandwidth", "9"], "give either"),
        (["--device", "H1000"], "H200 SXM, H100 SXM"),
        (["--price-per-hour", "2"], "needs a device"),
        (["--clips", "5", "--price-per-hour", "2"], "needs a device"),
        (["--clips", "0"], "--clips"),
        (["--price-per-hour", "-1", "--device", "L40S"], "--price-per-hour"),
        (["--clips", "5", "--output", "nowhere/plan.json"], "There is no folder nowhere"),
        (["--clips", "5", "--height", "4"], "below one latent cell"),
        (["--clips", "5", "--sample-clip", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_what_does_not_go_together_is_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--config", MODEL, *words]) in (1, 2)
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_outside_a_project_a_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--clips", "5"]) == 2
    assert "Name a model with --config" in capsys.readouterr().err


def write_project(root: Path) -> None:
    for name, text in {
        "base": "data: data\nclip: {frames: 6, height: 32, width: 64, fps: 8}\n",
        "other": "data: data/other\nclip: {height: 64}\n",
    }.items():
        (root / "conf" / name).mkdir(parents=True)
        (root / "conf" / name / "globals.yml").write_text(text)


def test_a_project_gives_its_base_and_its_clips(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(elsewhere)
    assert main(["plan", "--clips", "5"]) == 1
    assert "kedro run --pipelines=base" in capsys.readouterr().err
    for data in ("data", "data/other"):
        base = elsewhere / data / "06_models/base"
        base.mkdir(parents=True)
        write_base(base)
    assert main(["plan", "--clips", "5", "--output", "plan.json"]) == 0
    form = json.loads(Path("plan.json").read_text())["format"]
    assert form["size"] == {"frames": 6, "height": 32, "width": 64}
    assert (form["scale"], form["text_width"]) == (4, 8)
    (elsewhere / "conf/local").mkdir()
    (elsewhere / "conf/local/globals.yml").write_text("clip: {frames: 3}\n")
    assert main(["plan", "--clips", "5", "--output", "plan.json"]) == 0
    assert json.loads(Path("plan.json").read_text())["format"]["size"]["frames"] == 3
    monkeypatch.setenv("KEDRO_ENV", "other")
    assert main(["plan", "--clips", "5", "--frames", "2", "--output", "plan.json"]) == 0
    form = json.loads(Path("plan.json").read_text())["format"]
    assert form["size"] == {"frames": 2, "height": 64, "width": 64}


def test_globals_that_cannot_be_read_are_named(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "conf/base").mkdir(parents=True)
    (elsewhere / "conf/base/globals.yml").write_text("clip: {frames: 0}\n")
    assert main(["plan", "--clips", "5"]) == 1
    assert "globals.yml" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_a_sample_clip_is_decoded_here(capsys: pytest.CaptureFixture[str]) -> None:
    times = [number / 8 for number in range(16)]
    write_mp4(Path("clip.mp4"), render(scenes(1, 0)[0], times=times, height=64, width=64), 8.0)
    words = ["--clips", "100", "--frames", "4", "--height", "32", "--width", "32", "--device", "L40S"]
    assert main(["plan", "--config", MODEL, *words, "--sample-clip", "clip.mp4"]) == 0
    assert "clips/s per core" in capsys.readouterr().out


@pytest.mark.slow
def test_the_table_of_the_docs_is_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/scale.md").read_text()
    found = re.search(r"```console\n(mobius plan .*?)```\n+```text\n(.*?)```", page, re.DOTALL)
    assert found
    command, table = found.groups()
    assert main(shlex.split(command.replace("\\\n", " "))[1:]) == 0
    assert lines(capsys.readouterr().out) == lines(table)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]
