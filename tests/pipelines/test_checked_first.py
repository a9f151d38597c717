"""What a pipeline needs is asked for before it computes: here the base, which it would load, is nowhere."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from mobius_pipeline.evaluation.config import CompareConfig, EvaluateConfig
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.pipelines.compare.nodes import choose_trainings
from mobius_pipeline.pipelines.evaluate.nodes import evaluate
from mobius_pipeline.pipelines.export.nodes import export
from mobius_pipeline.pipelines.sample.nodes import sample
from mobius_pipeline.pipelines.train.nodes import train
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json
from mobius_pipeline.sampling.config import SampleConfig

NOWHERE = Path("/nowhere")
EVALUATE = EvaluateConfig(seed=0, reference_clips=4)
SAMPLE = SampleConfig(
    count=2, split="heldout", prompts=None, seed=0, steps=1, guidance_scale=1.0, batch_size=2, magnify=1,
    device="cpu",
)  # fmt: skip


@pytest.fixture
def trained(tracked_project: Path, tiny_store: Path, tiny_base: Path) -> Path:
    """A project with a serial training and its samples."""
    config, model = tiny.train_config(), tiny.model_config("serial")
    made = train(tiny_store, tiny_base, config, model, model, tracked_project / "work")
    weights = shutil.copytree(made, tracked_project / "models/serial")
    clip = ClipFormat(**read_json(tiny_store / "current.json")["clip"])
    videos = sample(weights, tiny_base, tiny_store, SAMPLE, clip, tracked_project / "work")
    shutil.copytree(videos, tracked_project / "samples/serial")
    return tracked_project


def of_another_mode(run_id: str) -> None:
    import mlflow

    mlflow.MlflowClient().set_tag(run_id, "mode", "parallel")


def evaluated(project: Path, store: Path, mode: str = "serial") -> Any:
    folders = project / "models" / mode, project / "samples/serial"
    return evaluate(*folders, store, NOWHERE, EVALUATE, project / "work")


def run_of(project: Path) -> str:
    return str(read_json(project / "models/serial/metrics.json")["run_id"])


def test_a_run_of_another_mode_stops_an_evaluation(trained: Path, tiny_store: Path) -> None:
    of_another_mode(run_of(trained))
    with pytest.raises(MobiusError, match="is of mode parallel, not serial"):
        evaluated(trained, tiny_store)


def test_a_run_that_is_gone_is_said_first(
    trained: Path, tiny_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    mlflow.MlflowClient().delete_run(run_of(trained))
    with pytest.raises(Exception, match="nowhere"):
        evaluated(trained, tiny_store)
    assert f"The run {run_of(trained)} of serial is not in" in caplog.text


def test_files_of_another_mode_are_refused(trained: Path, tiny_store: Path) -> None:
    (trained / "models/serial").rename(trained / "models/parallel")
    weights, work = trained / "models/parallel", trained / "work"
    clip = ClipFormat(**read_json(tiny_store / "current.json")["clip"])
    for asked in (
        lambda: evaluated(trained, tiny_store, "parallel"),
        lambda: sample(weights, NOWHERE, tiny_store, SAMPLE, clip, work),
        lambda: export(weights, NOWHERE, work),
    ):
        with pytest.raises(MobiusError, match=r"holds a training of mode serial, not parallel\. Run `kedro"):
            asked()


def test_a_damaged_training_or_missing_samples_stop_an_evaluation(trained: Path, tiny_store: Path) -> None:
    (trained / "samples/serial/samples.json").unlink()
    with pytest.raises(MobiusError, match=r"no .*samples\.json.*sample_serial"):
        evaluated(trained, tiny_store)
    (trained / "models/serial/metrics.json").write_text("{")
    with pytest.raises(MobiusError, match=r"metrics\.json cannot be used"):
        evaluated(trained, tiny_store)


def test_a_comparison_asks_for_its_trainings_first(trained: Path, tiny_store: Path, tiny_base: Path) -> None:
    config, models = tiny.train_config(), {mode: tiny.model_config(mode) for mode in ("serial", "parallel")}
    made = train(tiny_store, tiny_base, config, models["parallel"], models["serial"], trained / "work")
    shutil.copytree(made, trained / "models/parallel")
    serial, parallel = (trained / "models" / mode for mode in models)
    samples = trained / "samples/serial"
    runs: list[dict[str, Any]] = [
        {"run_id": read_json(folder / "metrics.json")["run_id"], "quality": {}}
        for folder in (serial, parallel)
    ]
    settings = CompareConfig(paired_steps=None)
    chosen = choose_trainings(serial, samples, runs[0], parallel, samples, runs[1], settings)
    assert list(chosen) == ["serial", "parallel"]
    of_another_mode(runs[0]["run_id"])
    with pytest.raises(MobiusError, match="is of mode parallel, not serial"):
        choose_trainings(serial, samples, runs[0], parallel, samples, runs[1], settings)
    with pytest.raises(MobiusError, match=r"no .*samples\.json"):
        choose_trainings(serial, trained, runs[0], parallel, samples, runs[1], settings)
