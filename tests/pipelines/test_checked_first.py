"""Test that a pipeline checks its inputs before it computes; here the base is missing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.config import CompareConfig, EvaluateConfig
from mobius_pipeline.evaluation.evaluation import Evaluation
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.pipelines.compare.nodes import choose_trainings
from mobius_pipeline.pipelines.evaluate.nodes import evaluate
from mobius_pipeline.pipelines.folders import FolderDataset
from mobius_pipeline.pipelines.sample.nodes import sample
from mobius_pipeline.pipelines.train.nodes import train
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.result import TrainingResult
from training_example import quality

pytestmark = pytest.mark.slow

NOWHERE = Path("/nowhere")
EVALUATE = EvaluateConfig(seed=0, reference_clips=4, device="cpu")
SAMPLE = SampleConfig(
    count=2, split="heldout", prompts=None, seed=0, steps=1, guidance_scale=1.0, batch_size=2, magnify=1,
    device="cpu",
)  # fmt: skip


@pytest.fixture
def trained(tracked_project: Path, tiny_store: Path, tiny_base: Path) -> Path:
    """A project with a serial training and its samples."""
    config, model = tiny.train_config(), tiny.variant("serial")
    store, work = LatentsStore(tiny_store), tracked_project / "work"
    made = train(store, BaseModel(tiny_base), config, model, model, work)
    shutil.copytree(made.folder, tracked_project / "models/serial")
    videos = sample(made, BaseModel(tiny_base), store, SAMPLE, store.clip, work)
    shutil.copytree(videos.folder, tracked_project / "samples/serial")
    return tracked_project


def of_another_mode(run_id: str) -> None:
    import mlflow

    mlflow.MlflowClient().set_tag(run_id, "mode", "parallel")


def load(kind: str, folder: Path) -> Any:
    """Return the objects that the catalog passes to a node."""
    return FolderDataset(filepath=str(folder), holds=f"mobius_pipeline.{kind}").load()


def evaluated(project: Path, store: Path, mode: str = "serial") -> Any:
    trained = load("training.result.TrainingResult", project / "models" / mode)
    samples = load("sampling.sample_set.SampleSet", project / "samples/serial")
    return evaluate(trained, samples, LatentsStore(store), BaseModel(NOWHERE), EVALUATE, project / "work")


def run_of(project: Path) -> str:
    return str(read_json(project / "models/serial/metrics.json")["run_id"])


def test_a_run_of_another_mode_stops_an_evaluation(trained: Path, tiny_store: Path) -> None:
    of_another_mode(run_of(trained))
    with pytest.raises(MobiusError, match="is of mode parallel, not serial"):
        evaluated(trained, tiny_store)


def test_a_run_that_is_gone_is_reported_first(
    trained: Path, tiny_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    mlflow.MlflowClient().delete_run(run_of(trained))
    with pytest.raises(Exception, match="nowhere"):
        evaluated(trained, tiny_store)
    assert f"The run {run_of(trained)} of serial is no longer in" in caplog.text


def test_files_of_another_mode_are_refused(trained: Path, tiny_store: Path) -> None:
    (trained / "models/serial").rename(trained / "models/parallel")
    with pytest.raises(DatasetError, match=r"holds a training of mode serial, not parallel\. Run `kedro"):
        evaluated(trained, tiny_store, "parallel")


def test_a_mode_in_the_place_of_parallel_goes_through(
    tracked_project: Path, tiny_store: Path, tiny_base: Path
) -> None:
    """As docs/compare.md says of the sum ablation."""
    config, models = tiny.train_config(), {mode: tiny.variant(mode) for mode in ("serial", "sum")}
    store, base, work = LatentsStore(tiny_store), BaseModel(tiny_base), tracked_project / "work"
    made = train(store, base, config, models["sum"], models["serial"], work)
    shutil.copytree(made.folder, tracked_project / "models/parallel")
    found = load("training.result.TrainingResult", tracked_project / "models/parallel")
    assert found.mode == "sum"
    samples = sample(found, base, store, SAMPLE, store.clip, work)
    evaluation, shown, _, _ = evaluate(found, samples, store, base, EVALUATE, work)
    assert evaluation.run_id == found.run_id
    assert list(shown) == ["sum"]
    before = tracked_project / "models/parallel"
    for name in ("serial", "other"):
        before = before.rename(tracked_project / "models" / name)
        with pytest.raises(DatasetError, match=f"holds a training of mode sum, not {name}"):
            load("training.result.TrainingResult", before)


def test_a_damaged_training_or_missing_samples_stop_an_evaluation(trained: Path, tiny_store: Path) -> None:
    (trained / "models/serial/metrics.json").write_text("{")
    with pytest.raises(MobiusError, match=r"metrics\.json cannot be used"):
        evaluated(trained, tiny_store)
    (trained / "samples/serial/samples.json").unlink()
    with pytest.raises(DatasetError, match=r"no .*samples\.json.*sample_serial"):
        evaluated(trained, tiny_store)


def test_a_comparison_asks_for_its_trainings_first(trained: Path, tiny_store: Path, tiny_base: Path) -> None:
    config, models = tiny.train_config(), {mode: tiny.variant(mode) for mode in ("serial", "parallel")}
    store, work = LatentsStore(tiny_store), trained / "work"
    parallel = train(store, BaseModel(tiny_base), config, models["parallel"], models["serial"], work)
    serial, samples = TrainingResult(trained / "models/serial"), SampleSet(trained / "samples/serial")
    runs = [Evaluation.of(one.metrics, one.run_id, quality()) for one in (serial, parallel)]
    settings = CompareConfig(paired_steps=None)
    chosen = choose_trainings(serial, samples, runs[0], parallel, samples, runs[1], settings)
    assert list(chosen) == ["serial", "parallel"]
    of_another_mode(runs[0].run_id)
    with pytest.raises(MobiusError, match="is of mode parallel, not serial"):
        choose_trainings(serial, samples, runs[0], parallel, samples, runs[1], settings)
