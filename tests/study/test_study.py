"""A study of a few tiny models: what it trains, what it does not train again, and its report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
import training_example
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Mode, Variant
from mobius_pipeline.pipelines.files import DocumentDataset
from mobius_pipeline.pipelines.study.nodes import draw_study, run_study
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.study import grid as run
from mobius_pipeline.study.cells import Cell, Laboratory
from mobius_pipeline.study.config import StudyConfig
from mobius_pipeline.study.config import name as name_of
from mobius_pipeline.study.model import EqualPoint, ModelResult, Scores, Study
from mobius_pipeline.study.pictures import draw
from mobius_pipeline.study.report import chosen, front, report


def config(**changes: Any) -> StudyConfig:
    settings = yaml.safe_load(Path("conf/base/parameters_study.yml").read_text())["study"]
    return StudyConfig(**settings | changes)


def test_every_model_has_a_name_of_its_own() -> None:
    settings = config()
    models = settings.models()
    assert list(models)[:2] == ["serial", "tail 0, width 0.125"]
    assert models["tail 0, width 0.125, attention, trained head"] == Variant(
        "parallel", width=0.125, blocks="attention", train_head=True
    )
    assert "serial, trained head" in models
    grid = len(settings.tails) * len(settings.widths) - 1  # neither tail nor stream: not a model
    assert len(models) == len(set(models.values())) == 1 + grid + len(settings.more)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tail": 1, "width": 0.25, "blocks": "atention"}, "blocks: Input should be 'resnet' or 'attention'"),
        ({"mode": "seriall"}, "mode: Input should be 'serial', 'parallel' or 'sum'"),
        ({"tail": 1, "width": 0.25}, "the study has tail 1, width 0.25 already"),
        ({"mode": "serial"}, "the study has serial already"),
    ],
)
def test_a_value_that_no_model_has_and_a_second_model_of_a_name_are_refused(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        config(tails=[1], widths=[0.25], more=[changes])


def test_an_option_that_no_model_has_is_refused() -> None:
    with pytest.raises(ValueError, match="not options of a model"):
        config(more=[{"widht": 0.5}])


FEW = config(tails=[1], widths=[0, 0.5], more=[], rates=[1e-3, 2e-3], seeds=[0, 1], near=0.5, paired_steps=2)
SAMPLE = SampleConfig(
    count=2, split="heldout", prompts=None, seed=0, steps=1, guidance_scale=1.0, batch_size=2, magnify=1,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def laboratory(tiny_store: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    train = tiny.train_config(steps=6, checkpoint_every=100)
    folder = tmp_path_factory.mktemp("work") / "study"
    return Laboratory(LatentsStore(tiny_store), BaseModel(tiny_base), train, folder)


@pytest.fixture(scope="module")
def found(laboratory: Laboratory) -> dict[str, run.Studied]:
    return run.study(laboratory, FEW)


@pytest.mark.slow
def test_all_train_to_serials_compute(found: dict[str, run.Studied]) -> None:
    spent = {name: one.first.flops_per_step * one.first.steps for name, one in found.items()}
    assert list(spent) == ["serial", "tail 1, width 0", "tail 1, width 0.5"]
    for name, one in found.items():
        assert abs(spent[name] - spent["serial"]) <= one.first.flops_per_step / 2
        assert one.rate == min(one.rates, key=lambda rate: one.rates[rate])
        assert list(one.seeds) == [0, 1]
        assert one.seeds[0].heldout_loss != one.seeds[1].heldout_loss


@pytest.mark.slow
def test_what_was_trained_is_not_trained_again(
    laboratory: Laboratory, found: dict[str, run.Studied], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mobius_pipeline.study import cells

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it was trained before")

    monkeypatch.setattr(cells, "train_mode", refuse)
    one = found["tail 1, width 0.5"]
    assert laboratory.metrics(Cell(one.model, one.rate, 1)) == one.seeds[1]
    with pytest.raises(AssertionError, match="before"):
        laboratory.metrics(Cell(one.model, one.rate, 2))


@pytest.mark.slow
def test_models_stand_beside_serial(
    laboratory: Laboratory, found: dict[str, run.Studied], tmp_path: Path
) -> None:
    step_s = {"serial": 1.0, "tail 1, width 0": 0.4, "tail 1, width 0.5": 0.6}
    scores = Scores(**dict(training_example.quality(motion=0.5)), samples=4)
    study = report(laboratory, found, step_s, {"serial": scores})
    assert Study.model_validate_json(study.model_dump_json()) == study
    serial, tail = study.models["serial"], study.models["tail 1, width 0"]
    assert (serial.peak_ratio, serial.equal_compute.ratio) == (1.0, 1.0)
    assert tail.peak_ratio < 1
    assert tail.equal_steps.steps == 6
    assert tail.equal_compute.steps == round(6 * serial.flops / tail.flops)
    assert tail.equal_compute.against is not None
    assert tail.equal_compute.against.over == "seeds"
    by_seed = tail.equal_compute.ratio_by_seed
    assert list(by_seed) == [0, 1]
    assert min(by_seed.values()) <= tail.equal_compute.ratio <= max(by_seed.values())
    assert (serial.quality, tail.quality) == (scores, None)
    pictures = draw(study, tmp_path / "pictures")
    assert sorted(path.name for path in pictures.iterdir()) == ["curves.png", "memory.png", "time.png"]


@pytest.mark.slow
def test_the_pipelines_nodes_sample_time_and_draw_what_was_trained(
    laboratory: Laboratory, found: dict[str, run.Studied], tmp_path: Path
) -> None:
    work, evaluate = laboratory.folder.parent, EvaluateConfig(seed=0, reference_clips=4, device="cpu")
    study = run_study(laboratory.store, laboratory.base, laboratory.train, FEW, SAMPLE, evaluate, work)
    assert list(study.models) == list(found)
    for name, one in study.models.items():
        assert one.loss_by_rate.keys() == {"0.001", "0.002"}
        assert one.step_s > 0
        assert one.quality is not None, name  # all are near the front
        assert one.quality.dynamic_degree is not None
        assert one.quality.dynamic_degree > 0
    again = run_study(laboratory.store, laboratory.base, laboratory.train, FEW, SAMPLE, evaluate, work)
    assert {name: one.quality for name, one in again.models.items()} == {
        name: one.quality for name, one in study.models.items()
    }
    dataset = DocumentDataset(
        filepath=str(tmp_path / "study.json"), holds="mobius_pipeline.study.model.Study"
    )
    dataset.save(study)
    assert dataset.load() == study
    assert len(list(draw_study(study, tmp_path / "work").iterdir())) == 3


def row(
    mode: Mode,
    peak: float,
    steps: float,
    compute: float,
    spread: float = 0.0,
    seeds: tuple[int, ...] = (0, 1),
) -> ModelResult:
    equal_steps, equal_compute = (
        EqualPoint.model_construct(ratio=mean, ratio_by_seed={0: mean - spread, 1: mean + spread})
        for mean in (steps, compute)
    )
    return ModelResult.model_construct(
        model=tiny.variant(mode),
        seeds=list(seeds),
        peak_ratio=peak,
        equal_steps=equal_steps,
        equal_compute=equal_compute,
    )


def test_the_rule_takes_the_least_memory_that_is_as_good() -> None:
    rows = {
        "serial": row("serial", 1.0, 1.0, 1.0),
        "slow": row("parallel", 0.2, 1.10, 0.99),
        "worse": row("parallel", 0.3, 1.02, 1.01),
        "lucky": row("parallel", 0.35, 1.02, 0.90, spread=0.02),
        "one seed": row("parallel", 0.38, 1.00, 0.95, seeds=(0,)),
        "same memory": row("parallel", 0.35, 1.10, 0.95),
        "small": row("parallel", 0.4, 1.02, 0.98),
        "large": row("parallel", 0.6, 0.98, 0.90),
        "beaten": row("parallel", 0.7, 0.99, 0.95),
    }
    assert chosen(rows) == "small"
    assert front(rows, "peak_ratio") == ["slow", "lucky", "large"]
    assert chosen({"serial": rows["serial"], "worse": rows["worse"]}) is None
    assert name_of(Variant("parallel", tail=2, width=0.5)) == "tail 2, width 0.5"


def test_a_loss_is_read_where_a_budget_is_spent() -> None:
    history = [(0, 1.0, 0.0), (4, 0.8, 0.0), (8, 0.6, 0.0)]
    curves = {"loss": [], "heldout": history}
    metrics = training_example.metrics(flops_per_step=10.0, steps=10, heldout_loss=0.5, history=curves)
    assert run.loss_within(metrics, 60.0) == pytest.approx(0.7)
    assert run.loss_within(metrics, 95.0) == 0.5  # rounded to whole steps, it is the end


def test_more_seeds_are_for_what_no_other_beats_by_much() -> None:
    def studied(mode: Mode, peak: int, loss: float) -> run.Studied:
        return run.Studied(
            tiny.variant(mode), 1e-3, {}, {0: training_example.metrics(peak_memory_bytes=peak)}, loss
        )

    found = {
        "serial": studied("serial", 100, 0.70),
        "best": studied("parallel", 50, 0.50),
        "near": studied("parallel", 60, 0.54),
        "far": studied("parallel", 60, 0.56),
        "small": studied("parallel", 40, 0.90),
    }
    assert run.near_front(found, 0.1) == ["serial", "best", "near", "small"]


@pytest.mark.slow
def test_a_model_that_does_not_fit_stops_the_study_before_another_is_trained(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    fresh = replace(laboratory, folder=tmp_path, _ends={})
    with pytest.raises(MobiusError, match="tail"):
        run.study(fresh, config(tails=[1, 99], widths=[0], more=[], rates=[1e-3], seeds=[0]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("steps", "every"), [(7, 3), (2, 1), (6, 2)])
def test_a_training_is_evaluated_thrice_on_all_clips(
    steps: int, every: int, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    store, train = LatentsStore(tiny_store), tiny.train_config(steps=steps, evaluate_clips=1, timer_warmup=0)
    laboratory = Laboratory(store, BaseModel(tiny_base), train, tmp_path)
    settings = laboratory.settings(Cell(Variant("serial"), 1e-3, 5))
    assert settings.evaluate_every == every
    assert settings.evaluate_clips == len(store.clips("heldout")) > 1
    assert (settings.seed, settings.optimizer.learning_rate, settings.previews) == (5, 1e-3, None)


@pytest.mark.slow
def test_a_damaged_result_is_written_again(
    laboratory: Laboratory, found: dict[str, run.Studied], caplog: pytest.LogCaptureFixture
) -> None:
    one = found["serial"]
    cell = Cell(one.model, one.rate, 0)
    for name in ("metrics.json", "training.json"):
        file = laboratory.folder_of(cell) / "trained" / name
        before = file.read_bytes()
        file.write_text("{")
        caplog.clear()
        assert laboratory.metrics(cell).heldout_loss == one.seeds[0].heldout_loss
        assert f"{file} cannot be used" in caplog.text
        assert len(file.read_bytes()) > len(before) / 2
