"""examples/train.py, started as by a user."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.models.variant import MODES
from mobius_pipeline.training.train_mode import train_mode
from project import ROOT, run

pytestmark = pytest.mark.slow

STEPS = 5


def options(mode: str, latents: Path, base: Path, output: Path) -> list[str]:
    found = {"mode": mode, "latents": latents, "base": base, "output": output, "steps": STEPS}
    return [f"--{name}={value}" for name, value in found.items()]


def started(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Run the script in this process, which has imported torch already."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    runpy.run_path(str(ROOT / "examples/train.py"), run_name="__main__")


def test_a_user_trains_and_gets_a_video(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    output = tmp_path / "my_training"
    arguments = [*options("parallel", tiny_store, tiny_base, output), "--prompt=a ring on white"]
    printed = run(ROOT, "python", "examples/train.py", *arguments)
    assert len(re.findall(r"^step \d+: loss \d", printed, re.MULTILINE)) == STEPS
    assert printed.endswith("sample.gif: a ring on white\n")
    with Image.open(output / "sample.gif") as video:
        assert (video.n_frames, video.size) == (4, (16, 16))  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
def test_losses_and_weights_are_those_of_train_mode(
    mode: str, tiny_store: Path, tiny_base: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "example"
    started(monkeypatch, options(mode, tiny_store, tiny_base, output))
    losses = re.findall(r"loss (\S+)", capsys.readouterr().out)

    optimizer = tiny.train_config().optimizer.model_dump() | {
        "learning_rate": 8e-4, "schedule": "constant", "warmup_steps": 0,
    }  # fmt: skip
    objective = {"min_snr_gamma": None, "noise_offset": 0, "zero_terminal_snr": False, "caption_dropout": 0.1}
    config = tiny.train_config(
        steps=STEPS, evaluate_every=STEPS, checkpoint_every=STEPS, batch_size=4, ema_decay=0.98,
        optimizer=optimizer, objective=objective,
    )  # fmt: skip
    model = tiny.variant(mode, **({"tail": 1, "width": 3 / 8} if mode == "parallel" else {}))  # type: ignore[arg-type]
    folders = {"state": tmp_path / "state", "output": tmp_path / "trained"}
    trained = train_mode(LatentsStore(tiny_store), BaseModel(tiny_base), model, config, **folders)
    assert losses == [f"{loss:.4f}" for _, loss, _ in trained.metrics.history.loss]

    example, library = (
        trainable_parameters(MobiusTextToVideoPipeline.from_pretrained(tiny_base, folder).unet)
        for folder in (output, trained.folder)
    )
    assert example.keys() == library.keys()
    for name in library:
        assert (example[name] - library[name]).abs().max() < 1e-5, name
