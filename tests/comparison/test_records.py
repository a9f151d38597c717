"""Test records of trainings, their grouping into columns, and the points of comparison."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError

import tiny
import training_example
from mobius_pipeline.comparison.columns import mean, mean_by_name, mean_of_scores
from mobius_pipeline.comparison.comparison import _FAIR, fairness, heldout_change
from mobius_pipeline.comparison.model import Change
from mobius_pipeline.comparison.points import points
from mobius_pipeline.comparison.records import Evaluated, columns, read_record, write_record
from mobius_pipeline.comparison.trainings import Record
from mobius_pipeline.evaluation.evaluation import Evaluation
from mobius_pipeline.pipelines.files import DocumentDataset
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json, write_json
from mobius_pipeline.runtime.mappings import flatten
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.metrics import LossByClip


def record(
    mode: str = "serial",
    seed: int = 0,
    loss: float = 0.1,
    data: str = "d",
    end: int | None = None,
    **train: Any,
) -> Record:
    settings = {
        "seed": seed, "steps": 8, "batch_size": 2, "objective": {}, "optimizer": {"state_bits": 32},
        "ema_decay": 0.9, "ema_warmup_power": None, "autocast": None, **train,
    }  # fmt: skip
    by_clip = {"start": {"x": 0.2, "y": 0.4}, "end": {"x": loss, "y": loss + 0.2}}
    after_8 = {"loss": loss + 0.12, "by_timestep": {}, "by_clip": {"x": loss + 0.02, "y": loss + 0.22}}
    metrics = training_example.metrics(
        heldout_loss=loss + 0.1, heldout_loss_start=0.3, heldout_by_clip=by_clip,
        heldout_at_steps=after_8 if end else after_8 | {"loss": loss + 0.1, "by_clip": by_clip["end"]},
        steps=end or settings["steps"], flops_per_step=1.0 if end is None else 8 / end,
        history={"loss": [], "heldout": [[0, 0.3, 0.0], [8, loss + 0.12, 1.0], [end or 8, loss + 0.1, 2.0]]},
        heldout_watched=[[0, by_clip["start"]], [8, after_8["by_clip"]], [end or 8, by_clip["end"]]],
    )  # fmt: skip
    description = training_example.description(
        model={"mode": mode, "width": settings.pop("width", 1.0), "checkpoint_temporal": False},
        train=settings,
        fingerprints={"config": f"{seed}", "base": "b" * 64, "data": data * 64},
    )
    return Record(description, metrics, "r", training_example.quality(), SampleSet(Path("samples")))


def changed(one: Record, **metrics: Any) -> Record:
    return replace(one, metrics=one.metrics.model_copy(update=metrics))


def against(first: list[Record], other: list[Record], point: str = "steps") -> Change:
    found = points({"first": first, "other": other}, {"first": 1.0, "other": 0.8})
    change: Change = getattr(found, point).against["other"]
    return change


def test_what_differs_names_the_columns() -> None:
    records = [record(), record("parallel"), record("parallel", width=0.25), record("parallel", steps=16)]
    assert list(columns(records)) == [
        "serial",
        "parallel (width 1.0, steps 8)",
        "parallel (width 0.25, steps 8)",
        "parallel (width 1.0, steps 16)",
    ]
    assert list(columns(records[:2])) == ["serial", "parallel"]
    longer = record("parallel", width=0.25, last_step=12)  # which follows from the width
    assert list(columns([record(), record("parallel", last_step=9), longer])) == [
        "serial",
        "parallel (width 1.0)",
        "parallel (width 0.25)",
    ]
    others = columns([record(), record(data="e")])
    assert list(others) == ["serial (data dddddddd)", "serial (data eeeeeeee)"]


def test_seeds_share_a_column() -> None:
    grouped = columns(
        [record(seed=0), record("parallel", seed=0), record(seed=1), record("parallel", seed=1)]
    )
    assert [[one.seed for one in records] for records in grouped.values()] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("number", [0, 1, 9])
def test_too_few_or_too_many_columns_are_refused(number: int) -> None:
    with pytest.raises(MobiusError, match=rf"make {number} columns.*compare.runs"):
        columns([record(steps=step) for step in range(1, number + 1)])


def test_a_record_comes_back(tmp_path: Path) -> None:
    write_record(tmp_path / "record", record())
    found = read_record(tmp_path)
    assert found.metrics == Evaluated(**dict(record().metrics), quality=record().quality)
    assert replace(found, metrics=record().metrics, samples=record().samples) == record()
    assert found.samples.folder == tmp_path / "samples"
    with pytest.raises(MobiusError, match="no record of an evaluation"):
        read_record(tmp_path / "elsewhere")


def test_a_record_of_an_earlier_version_has_its_runtime_apart(tmp_path: Path) -> None:
    now = record().description.model_dump()
    runtime = {"device": "cuda", "keep_last": 3}
    before = {key: value for key, value in now.items() if key not in ("runtime", "devices")}
    folder = write_record(tmp_path / "record", record())
    write_json(folder / "training.json", before | {"train": now["train"] | runtime})
    expected = Description(**now | {"runtime": runtime, "devices": ["cuda"]})
    assert read_record(tmp_path).description == expected


def test_a_record_of_an_earlier_version_lacks_scores_and_has_others(tmp_path: Path) -> None:
    folder = write_record(tmp_path / "record", record())
    metrics = read_json(folder / "metrics.json")
    write_json(folder / "metrics.json", metrics | {"quality": {"motion": 0.5, "older": 1}, "older": 1})
    assert read_record(tmp_path).quality == training_example.quality(motion=0.5)
    evaluation = Evaluation.of(record().metrics, "r", record().quality).model_dump() | {
        "quality": {"shape": 1}
    }
    write_json(tmp_path / "metrics.json", evaluation)
    dataset = DocumentDataset(
        filepath=str(tmp_path / "metrics.json"), holds="mobius_pipeline.evaluation.evaluation.Evaluation"
    )
    assert dataset.load().quality == training_example.quality(shape=1)
    write_json(tmp_path / "metrics.json", evaluation | {"quality": {"mtion": 1}})
    with pytest.raises(DatasetError, match=r"quality\.colour: Field required"):
        dataset.load()


def test_several_seeds_are_compared_by_seed_and_one_by_clip() -> None:
    serial, parallel = record(), record("parallel", loss=0.15)
    assert against([serial], [parallel]).over == "clips"
    several = [record(seed=seed, loss=0.1 + seed / 100) for seed in range(3)]
    others = [record("parallel", seed=seed, loss=0.15 + seed / 100) for seed in (2, 1, 0)]
    found = against(several, others)
    assert (found.over, found.pairs) == ("seeds", 3)
    assert found.percent == pytest.approx(100 * 0.05 / 0.21)
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low == pytest.approx(0, abs=1e-9)  # all pairs have the same difference
    assert heldout_change(several).over == "seeds"
    assert against(several, [parallel]).over == "clips"


def test_losses_are_compared_where_all_have_spent_the_same() -> None:
    """A step of parallel takes 8/12 of the FLOPs and 0.8 of the time of serial's; it trained 12 steps."""
    serial, parallel = record(), record("parallel", loss=0.08, end=12)
    found = points({"serial": [serial], "parallel": [parallel]}, {"serial": 1.0, "parallel": 0.8})
    assert found.steps.steps == {"serial": 8, "parallel": 8}
    assert found.steps.losses == pytest.approx({"serial": 0.2, "parallel": 0.2})
    assert found.steps.seconds == pytest.approx({"serial": 8.0, "parallel": 6.4})
    assert found.compute.steps == {"serial": 8, "parallel": 12}
    assert found.compute.losses == pytest.approx({"serial": 0.2, "parallel": 0.18})
    assert found.compute.flops == pytest.approx({"serial": 8.0, "parallel": 8.0})
    assert found.compute.against["parallel"].pairs == 2
    # After 8 s parallel had made 10 steps, which is between two evaluations, so the curves are interpolated.
    assert found.time.steps == {"serial": 8, "parallel": 10}
    assert found.time.losses["parallel"] == pytest.approx(0.19)
    change = found.time.against["parallel"]
    assert change.pairs == 2
    both_clips_fell_by_the_same = pytest.approx(100 * (0.19 / 0.2 - 1))
    assert [change.low, change.percent, change.high] == [both_clips_fell_by_the_same] * 3


def test_curves_without_clips_give_no_interval() -> None:
    """Curves of a training of version 0.1.0 have only the means."""
    serial, parallel = record(), record("parallel", loss=0.08, end=12)
    parallel = changed(parallel, heldout_watched=[])
    change = against([serial], [parallel], "time")
    assert (change.low, change.pairs) == (None, 0)
    assert change.percent == pytest.approx(100 * (0.19 / 0.2 - 1))


def test_other_held_out_clips_give_no_interval() -> None:
    other = record("parallel", loss=0.15)
    moved = {
        key: {f"other {clip}": loss for clip, loss in by.items()} for key, by in other.metrics.heldout_by_clip
    }
    found = against([record()], [changed(other, heldout_by_clip=LossByClip(**moved))])
    assert (found.low, found.pairs) == (None, 0)
    assert found.percent == pytest.approx(25)


def test_the_mean_of_runs_keeps_what_is_equal_and_says_nothing_of_what_is_missing() -> None:
    assert [mean(values) for values in ([1, 2], [4, 4], [None, 1.0], ["a", "b"], ["a", "a"], [0.5])] == [
        1.5, 4, None, None, "a", 0.5,
    ]  # fmt: skip
    assert mean_by_name([{"a": 1.0, "b": 4}, {"a": 2.0, "c": 1}]) == {"a": 1.5}
    scores = training_example.quality
    found = mean_of_scores([scores(motion=0.5, frechet=2.0), scores(motion=1.0)])
    assert found == scores(motion=0.75)


def test_other_seeds_and_other_steps_are_not_fair() -> None:
    pair = {"serial": [record(seed=0)], "parallel": [record("parallel", seed=1)]}
    assert fairness(pair).differing == ["draws"]
    pair["parallel"] = [record("parallel", steps=9)]
    assert fairness(pair).differing == ["steps"]


def test_a_setting_that_another_versions_training_lacks_is_not_the_same() -> None:
    first, other = record(), record("parallel")
    train = {key: value for key, value in other.description.train.items() if key != "ema_decay"}
    other = replace(other, description=other.description.model_copy(update={"train": train}))
    assert fairness({"serial": [first], "parallel": [other]}).differing == ["optimizer"]


def test_the_settings_that_must_agree_are_those_of_a_training() -> None:
    described = training_example.description(train=tiny.train_config().identity()).model_dump()
    settings = [name for name, _ in flatten(described)]
    for key in itertools.chain(*_FAIR.values()):
        assert any(name == key or name.startswith(f"{key}.") for name in settings), key


@pytest.mark.parametrize(("part", "key"), [("model", "mode"), ("train", "seed"), ("train", "steps")])
def test_a_record_that_does_not_say_what_it_is_of_is_refused(part: str, key: str, tmp_path: Path) -> None:
    file = write_record(tmp_path / "record", record()) / "training.json"
    content = read_json(file)
    del content[part][key]
    write_json(file, content)
    with pytest.raises(MobiusError, match=rf"training.json cannot be used: .*it lacks {part}\.{key}\."):
        read_record(tmp_path)
