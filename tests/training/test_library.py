"""Training from Python, without Kedro and MLflow."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

import tiny
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training import train_mode
from mobius_pipeline.training.run import read_metrics

LINES = Path(__file__).parents[2] / "docs/library.md"


def test_the_lines_of_the_page_run(
    tiny_store: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", LINES.read_text(), re.DOTALL)
    shutil.copytree(tiny_store, tmp_path / "data/05_model_input/latents")
    shutil.copytree(tiny_base, tmp_path / "data/06_models/base")
    settings = {
        "train": tiny.train_config().model_dump(mode="json"),
        "parallel": {"model": tiny.model_config("parallel").model_dump(mode="json")},
    }
    (tmp_path / "conf/base").mkdir(parents=True)
    (tmp_path / "conf/base/parameters_train.yml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(LINES), "exec"), {})
    assert "6 {'loss'" in capsys.readouterr().out
    metrics = read_metrics(tmp_path / "my_training/parallel")
    assert metrics["steps"] == 6
    assert metrics["heldout_loss"] != metrics["heldout_loss_start"]


def test_resume_state_of_another_training_is_refused(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    store, model, config = LatentsStore(tiny_store), tiny.model_config("parallel"), tiny.train_config()
    folders = {"state": tmp_path / "state", "output": tmp_path / "output"}
    train_mode(store, tiny_base, model, config, **folders)
    before = read_metrics(tmp_path / "output")
    faster = config.model_copy(update={"steps": 8})
    with pytest.raises(MobiusError, match=r"of another training: .*train\.steps is 8 and was 6"):
        train_mode(store, tiny_base, model, faster, **folders)
    train_mode(store, tiny_base, model, config, **folders)  # the same goes on: there is nothing left to do
    after = read_metrics(tmp_path / "output")
    assert after["heldout_by_clip"] == before["heldout_by_clip"]
