"""Several processes train as one does, fail together, stop together, and resume in another number."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import several
import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.signals import Terminated, sigterm_raises
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.checkpoints import newest_checkpoint
from mobius_pipeline.training.launch import Job, launch
from mobius_pipeline.training.metrics import Metrics
from mobius_pipeline.training.processes import ALONE, Processes
from mobius_pipeline.training.train_mode import train_mode
from project import run

pytestmark = pytest.mark.slow

BATCH = {"batch_size": 8, "steps": 4, "evaluate_every": 2}


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `several` and `tiny` on the import path of the processes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))


@pytest.fixture
def job(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> Any:
    """Create jobs, each in its own folder."""

    def make(name: str, mode: Mode = "parallel", **changes: Any) -> Job:
        (tmp_path / name).mkdir(exist_ok=True)
        return Job(
            latents=tiny_store,
            base=tiny_base,
            model=tiny.variant(mode, checkpoint_temporal=changes.pop("checkpoint_temporal", False)),
            config=tiny.train_config(**BATCH | changes),
            state=tmp_path / name / "state",
            output=tmp_path / name / "output",
            run_id=None,
        )

    return make


def found(job: Job) -> Any:
    return json.loads((job.output / "found.json").read_text())


def run_alone(job: Job) -> Any:
    several.in_float64(job, Callbacks(), ALONE)
    return found(job)


def run_several(job: Job) -> Any:
    job.state.mkdir(parents=True)
    launch(several.in_float64, job, Callbacks())
    return found(job)


def test_shares_cover_a_batch_once() -> None:
    shares = [Processes(rank, 4).shard(range(8)) for rank in range(4)]
    assert [item for share in shares for item in share] == list(range(8))


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_parts_of_a_batch_add_up(mode: Mode, job: Any) -> None:
    whole = run_alone(job("whole", mode))
    parts = run_alone(job("parts", mode, gradient_accumulation_steps=4))
    assert (parts.pop("parts"), whole.pop("parts")) == (4, 1)
    assert parts.pop("flops") == whole.pop("flops")
    assert all(parts[name] == pytest.approx(whole[name], rel=1e-10, abs=1e-12) for name in whole)


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("serial", {"num_processes": 2}),
        ("parallel", {"num_processes": 2, "gradient_accumulation_steps": 2, "checkpoint_temporal": True}),
        ("parallel", {"num_processes": 4}),
    ],
)
def test_several_processes_train_as_one(mode: Mode, changes: dict[str, Any], job: Any) -> None:
    one = run_alone(job("one", mode))
    many = run_several(job("many", mode, **changes))
    if not changes.get("checkpoint_temporal"):
        assert many["flops"] == one["flops"]
    assert many["parts"] == changes.get("gradient_accumulation_steps", 1)
    del many["flops"], one["flops"], many["parts"], one["parts"]
    assert all(many[name] == pytest.approx(one[name], rel=1e-10, abs=1e-12) for name in one)


def test_the_end_of_one_ends_all(job: Any) -> None:
    dying = job("dying", num_processes=2, checkpoint_every=1)
    dying.state.mkdir(parents=True)
    began = time.monotonic()
    with pytest.raises(MobiusError, match=r"Process 1 of the training failed.*SIGKILL"):
        launch(several.killed_at_three, dying, Callbacks())
    assert time.monotonic() - began < 90
    saved = newest_checkpoint(dying.state)
    assert saved is not None
    assert saved.step == 2


def test_stopped_in_two_it_goes_on_in_one(
    tiny_store: Path, tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, model = LatentsStore(tiny_store), tiny.variant("parallel")
    heard: list[int] = []

    def stop_at_three(metrics: dict[str, float], step: int) -> None:
        if "loss" in metrics:
            heard.append(step)
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    def run(folder: str, callbacks: Callbacks | None = None, **changes: Any) -> Metrics:
        long = {"batch_size": 4, "steps": 60, "checkpoint_every": 60, "evaluate_every": 60}
        folders = {"state": tmp_path / folder / "state", "output": tmp_path / folder / "output"}
        config = tiny.train_config(**long | changes)
        result = train_mode(store, BaseModel(tiny_base), model, config, **folders, callbacks=callbacks)
        return result.metrics

    before = signal.getsignal(signal.SIGTERM)
    with sigterm_raises(), pytest.raises(Terminated):
        run("broken", Callbacks(metrics=stop_at_three), num_processes=2)
    saved = newest_checkpoint(tmp_path / "broken/state")
    assert saved is not None
    assert 3 <= saved.step < 60
    assert heard == list(range(1, saved.step + 1))
    assert signal.getsignal(signal.SIGTERM) is before

    resumed, straight = run("broken"), run("straight")
    assert "It was saved by 2 processes and is resumed by 1" in caplog.text
    losses = [[row[1] for row in one.history.loss] for one in (resumed, straight)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_machine_joins(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Two machines, both this one: `mobius join`, and the training that it joins."""
    from ports import free_port

    meeting = {"endpoint": f"127.0.0.1:{free_port(29500)}", "nodes": 2}
    config = tiny.train_config(**BATCH, rendezvous=meeting)
    state = tmp_path / "state"

    def join() -> str:
        while not (state / "job.json").is_file():
            time.sleep(0.1)
        return run(tmp_path, "mobius", "join", str(state / "job.json"))

    ended: list[str] = []
    other = threading.Thread(target=lambda: ended.append(join()), daemon=True)
    other.start()
    store, model = LatentsStore(tiny_store), tiny.variant("parallel")
    result = train_mode(store, BaseModel(tiny_base), model, config, state=state, output=tmp_path / "output")
    other.join(60)
    assert ended  # or its thread has raised what it printed
    assert result.metrics.steps == 4
    assert result.description.processes == 2


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.batch_size: 8 clips cannot be shared by 3 processes"):
        tiny.train_config(batch_size=8, num_processes=3)
    with pytest.raises(ValueError, match="parts each: make it a multiple of 12"):
        tiny.train_config(batch_size=8, num_processes=4, gradient_accumulation_steps=3)
