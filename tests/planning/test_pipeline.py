"""Test the `plan` pipeline from a base's folder to JSON; no weights are read."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.pipelines.plan import create_pipeline
from mobius_pipeline.planning.config import PlanConfig
from mobius_pipeline.planning.model import Plan
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.errors import MobiusError

UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8],
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
}


TRAIN = {
    "batch_size": 2,
    "gradient_accumulation_steps": 1,
    "num_processes": 1,
    "rendezvous": None,
    "steps": 300,
    "equal_compute": True,
    "autocast": None,
    "device": "cpu",
}
FILES = {
    "unet/config.json": UNET,
    "vae/config.json": {"block_out_channels": [8, 8, 8]},
    "tokenizer/tokenizer_config.json": {"model_max_length": 16},
}


def write_base(folder: Path) -> Path:
    for name, config in FILES.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(json.dumps(config))
    return folder


def base_config() -> PlanConfig:
    return PlanConfig(**yaml.safe_load(Path("conf/base/parameters_plan.yml").read_text())["plan"])


def planned(base: Path, plan: PlanConfig, **train: Any) -> Plan:
    """Run the pipeline for clips of 3 frames of 32 x 64 px; return the plan."""
    inputs = {
        "base_model": BaseModel(base),
        "params:plan": plan,
        "params:clip": ClipFormat(frames=3, height=32, width=64, fps=8),
        **{f"params:train.{name}": value for name, value in (TRAIN | train).items()},
        "params:serial.model": tiny.variant("serial"),
        "params:parallel.model": tiny.variant("parallel"),
    }
    catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in inputs.items()})
    found: Plan = SequentialRunner().run(create_pipeline(), catalog)["plan"].load()
    return found


@pytest.mark.slow
def test_plan_from_a_folder_of_configurations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on_a_gpu = base_config().model_copy(update={"device": "L40S", "price_per_hour": 2.0})
    plan = planned(write_base(tmp_path), on_a_gpu)
    assert plan.step == StepShape(batch=2, frames=3, height=8, width=16, tokens=16, parts=1)
    assert set(plan.modes) == {"serial", "parallel"}
    assert plan.modes["parallel"].fits_gib[8]
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    (lever,) = plan.levers.values()
    assert lever.peak_bytes < plan.modes["parallel"].peak_bytes
    assert plan.largest is None
    serial, parallel = plan.modes["serial"], plan.modes["parallel"]
    steps = round(300 * serial.flops / parallel.flops)
    assert [mode.time and mode.time.steps for mode in (serial, parallel)] == [300, steps]
    assert steps > 300
    for mode in (serial, parallel, lever):
        assert mode.time is not None
        assert mode.time.hours == pytest.approx(mode.time.step_s * mode.time.steps / 3600)
        assert mode.time.cost == pytest.approx(2.0 * mode.time.hours)
        assert mode.time.fits_device
    shown = capsys.readouterr().out
    for words in ("8 GiB or more", "time per step", "cost at 2 per hour", "fits its 48 GiB", "L40S"):
        assert words in shown


@pytest.mark.slow
def test_parts_and_processes_of_the_training_are_planned(tmp_path: Path) -> None:
    """Each process computes its share of the batch in parts."""
    base, modes_alone = write_base(tmp_path), base_config().model_copy(update={"levers": ()})
    whole = planned(base, modes_alone, batch_size=4)
    nodes = {"endpoint": "leader:1", "nodes": 2}
    shared = {"batch_size": 16, "num_processes": 2, "rendezvous": nodes, "gradient_accumulation_steps": 2}
    share = planned(base, modes_alone, **shared)
    assert (share.step.batch, share.step.parts) == (4, 2)
    for mode, one in share.modes.items():
        assert one.flops == whole.modes[mode].flops
        assert one.peak_bytes < whole.modes[mode].peak_bytes


@pytest.mark.parametrize("changes", [{"num_processes": 3}, {"gradient_accumulation_steps": 4}])
def test_a_batch_that_cannot_be_shared_is_refused_as_by_the_training(
    changes: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(MobiusError, match=r"train\.batch_size: 2 clips cannot be shared"):
        planned(write_base(tmp_path), base_config(), **changes)


@pytest.mark.parametrize("length", [None, 10**30])
def test_a_tokenizer_without_a_length_is_named(length: int | None, tmp_path: Path) -> None:
    file = write_base(tmp_path) / "tokenizer/tokenizer_config.json"
    file.write_text(json.dumps({"model_max_length": length}))
    with pytest.raises(MobiusError, match=f"{file} has no model_max_length"):
        planned(tmp_path, base_config())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device": "H1000"}, "no device 'H1000'"),
        ({"price_per_hour": 2.0}, "needs a device"),
        ({"device": {"name": "mine", "tflops_float32": 1.0}}, "gb_per_s"),
    ],
)
def test_a_bad_device_is_refused_before_anything_runs(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PlanConfig(**base_config().model_dump() | changes)


def test_an_unknown_lever_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['serial width'\] are unknown"):
        PlanConfig(**base_config().model_dump() | {"levers": ["serial width"]})
