"""Tests that need a GPU (`make test-gpu`): the same small models and real stages, on CUDA."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import several
import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import TextEncoder, load_vae
from mobius_pipeline.evaluation.quality import vae_encoder
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.models.factory import build_model, trainable_parameters
from mobius_pipeline.models.variant import Mode, Variant
from mobius_pipeline.planning.calibrate import training_device
from mobius_pipeline.planning.levers import Recipe
from mobius_pipeline.planning.predict import model_inputs, predict_training, training_step
from mobius_pipeline.planning.roofline import seconds
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.launch import Job, launch
from mobius_pipeline.training.meters import StepTimer, tensor_bytes
from mobius_pipeline.training.processes import processes_of_torchrun
from mobius_pipeline.training.train_mode import build_trainer
from mobius_pipeline.training.trainer import Trainer
from project import change, commit, make_project, run

MODES = ("serial", "parallel")
BATCH = {"batch_size": 8, "steps": 4, "evaluate_every": 2}
ROUNDING = 1e-2  # relative: cuDNN's convolutions round their factors to TF32


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    assert torch.cuda.is_available(), "torch finds no CUDA device here"


def trainer(model: Variant, store: Path, base: Path, folder: Path, **changes: Any) -> Trainer:
    config = tiny.train_config(**{"device": "cuda", **changes})
    return build_trainer(LatentsStore(store), BaseModel(base), model, config, folder, Callbacks())


def losses(one: Trainer) -> list[float]:
    return [loss for _, loss, _ in one.history.loss]


def moved(one: Trainer, before: dict[str, torch.Tensor]) -> set[str]:
    now = trainable_parameters(one.model)
    return {name for name, value in before.items() if not torch.equal(value, now[name].detach().cpu())}


@pytest.mark.parametrize("mode", MODES)
def test_trains_as_on_the_cpu(mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        one = trainer(tiny.variant(mode), tiny_store, tiny_base, tmp_path / device, device=device, steps=20)
        one.train()
        found[device] = losses(one)
    assert found["cuda"] == pytest.approx(found["cpu"], rel=ROUNDING)


@pytest.mark.parametrize("mode", MODES)
def test_the_peak_is_the_allocators(mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    one = trainer(tiny.variant(mode), tiny_store, tiny_base, tmp_path)
    one.train()
    memory = one.meter.memory
    resident = tensor_bytes([*one.model.parameters(), *one.optimization.ema.shadow_params])
    assert memory["breakdown"]["weights"] == resident
    assert sum(memory["breakdown"].values()) == memory["peak_bytes"]
    assert min(memory["breakdown"].values()) >= 0
    torch.cuda.reset_peak_memory_stats()
    one.train_step(one.batch(3))
    # The meter itself keeps nothing alive: a step without it needs as much.
    assert torch.cuda.max_memory_allocated() == pytest.approx(memory["peak_bytes"], rel=0.02)


@pytest.mark.usefixtures("torchao")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state_bits", [32, 8])
def test_goes_on_from_a_checkpoint(
    mode: Mode, state_bits: int, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    optimizer = tiny.train_config().optimizer.model_dump() | {"state_bits": state_bits}
    changes = {"optimizer": optimizer, "steps": 6}
    straight = trainer(tiny.variant(mode), tiny_store, tiny_base, tmp_path / "straight", **changes)
    straight.train()

    class BrokenError(Exception):
        pass

    broken = trainer(tiny.variant(mode), tiny_store, tiny_base, tmp_path / "broken", **changes)

    def break_at_five(_: dict[str, float], step: int) -> None:
        if step == 5:
            raise BrokenError

    broken.callbacks = Callbacks(metrics=break_at_five)
    with pytest.raises(BrokenError):
        broken.train()
    resumed = trainer(tiny.variant(mode), tiny_store, tiny_base, tmp_path / "broken", **changes)
    resumed.train()
    assert losses(resumed)[:4] == losses(broken)[:4]
    assert losses(resumed) == pytest.approx(losses(straight), rel=ROUNDING)


@pytest.mark.parametrize("there", ["cpu", "cuda"])
def test_goes_on_from_a_checkpoint_of_another_device(
    there: str, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    here = "cuda" if there == "cpu" else "cpu"
    model = tiny.variant("parallel")
    straight = trainer(model, tiny_store, tiny_base, tmp_path / "straight", device=here)
    straight.train()
    first = trainer(model, tiny_store, tiny_base, tmp_path / "moved", device=there)

    def stop(_: dict[str, float], step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    first.callbacks = Callbacks(metrics=stop)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = trainer(model, tiny_store, tiny_base, tmp_path / "moved", device=here)
    second.train()
    assert second.meter.devices == [there, here]
    assert losses(second) == pytest.approx(losses(straight), rel=ROUNDING)


LEVERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "autocast": ({}, {"autocast": "bfloat16"}),
    "base in bfloat16": ({"spatial_dtype": "bfloat16"}, {}),
    "base in float16": ({"spatial_dtype": "float16"}, {}),
    "checkpointed": ({"checkpoint_temporal": True}, {}),
    "compiled": ({"compile_spatial": True}, {}),
    "accumulated": ({}, {"gradient_accumulation_steps": 2}),
}


def accepts(mode: Mode, options: dict[str, Any]) -> bool:
    try:
        return bool(tiny.variant(mode, **options))
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("lever", "mode"),
    [(lever, mode) for lever, (options, _) in LEVERS.items() for mode in MODES if accepts(mode, options)],
)
def test_every_lever_trains_every_parameter(
    lever: str, mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    options, changes = LEVERS[lever]
    plain = trainer(tiny.variant(mode), tiny_store, tiny_base, tmp_path / "plain")
    plain.train()
    one = trainer(tiny.variant(mode, **options), tiny_store, tiny_base, tmp_path / "lever", **changes)
    before = {name: value.detach().cpu().clone() for name, value in one.optimization.trained.items()}
    one.train()
    assert moved(one, before) == set(before)
    assert losses(one) == pytest.approx(losses(plain), rel=0.05)


def nccl_job(store: Path, base: Path, folder: Path, **changes: Any) -> Job:
    return Job(
        latents=store,
        base=base,
        model=tiny.variant("parallel"),
        config=tiny.train_config(device="cuda", **changes),
        state=folder,
        output=folder / "output",
        run_id=None,
    )


def test_one_process_under_nccl(
    tiny_store: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One GPU runs one process, whose gradients and sums still go through NCCL."""
    of_torchrun = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": 29517}
    for name, value in {**of_torchrun, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    job = nccl_job(tiny_store, tiny_base, tmp_path, **BATCH)
    with processes_of_torchrun("cuda", leads=True) as processes:
        found = several.under_nccl(job, Callbacks(), processes)
    alone = trainer(job.model, tiny_store, tiny_base, tmp_path / "alone", **BATCH)
    alone.train()
    assert losses(found) == pytest.approx(losses(alone), rel=ROUNDING)


def test_more_processes_than_gpus_are_refused(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    more = torch.cuda.device_count() + 1
    job = nccl_job(tiny_store, tiny_base, tmp_path, num_processes=more, batch_size=2 * more)
    with pytest.raises(MobiusError, match=f"num_processes is {more}, and this machine has {more - 1} GPUs"):
        launch(several.under_nccl, job, Callbacks())


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="device: cuda:99 cannot be used here"):
        tiny.train_config(device="cuda:99")


def test_latents_are_those_of_the_cpu(
    sample_table: Any, sample_clips: Path, tiny_base: Path, tiny_store: Path, tmp_path: Path
) -> None:
    update_store(
        tmp_path,
        sample_table,
        sample_clips,
        BaseModel(tiny_base),
        tiny.CLIP,
        tiny.encode_config(device="cuda"),
    )
    here, there = LatentsStore(tiny_store), LatentsStore(tmp_path)
    clips, own = here.clips("heldout"), {clip.clip_id: clip for clip in there.clips("heldout")}
    assert len(clips) == len(own) > 0
    for clip in clips:
        wanted, found = here.moments(clip), there.moments(own[clip.clip_id])
        for one, other in zip(wanted, found, strict=True):
            assert (one - other).abs().max() <= ROUNDING * one.abs().max()


@pytest.mark.parametrize("settings", [{"processes": 2}, {"gpus": "auto"}, {"gpus": [0], "processes": 3}])
def test_processes_and_gpus_write_the_same_latents(
    settings: dict[str, Any], sample_table: Any, sample_clips: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """This also holds on a machine with several GPUs of the same type."""
    stores = {}
    for name, chosen in (("one", {}), ("several", settings)):
        config = tiny.encode_config(device="cuda", **chosen)
        update_store(tmp_path / name, sample_table, sample_clips, BaseModel(tiny_base), tiny.CLIP, config)
        stores[name] = {path.name for path in (tmp_path / name).rglob("shard-*.safetensors")}
    assert stores["one"] == stores["several"]  # named by their bytes' hash


def test_more_gpus_than_there_are_do_not_encode(
    sample_table: Any, sample_clips: Path, tiny_base: Path, tmp_path: Path
) -> None:
    here = torch.cuda.device_count()
    config = tiny.encode_config(device="cuda", gpus=here + 1)
    with pytest.raises(MobiusError, match=rf"encode\.gpus is {here + 1}, and this machine has {here} GPUs"):
        update_store(tmp_path, sample_table, sample_clips, BaseModel(tiny_base), tiny.CLIP, config)


def test_text_is_that_of_the_cpu(tiny_base: Path) -> None:
    captions = ["a red circle moves left", ""]
    here, there = (TextEncoder(tiny_base, device)(captions).float().cpu() for device in ("cpu", "cuda"))
    assert torch.allclose(here, there, atol=1e-3)
    assert next(load_vae(tiny_base).to("cuda").parameters()).is_cuda


def test_features_of_videos_are_those_of_the_cpu(tiny_base: Path) -> None:
    video = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    here, there = (vae_encoder(BaseModel(tiny_base), device)(video) for device in ("cpu", "cuda"))
    assert (here.device, there.device) == (torch.device("cpu"),) * 2
    assert torch.allclose(here, there, atol=1e-3, rtol=ROUNDING)


def test_the_whole_chain(tmp_path: Path, mlflow_template: Path) -> None:
    """All stages on the GPU, their report, what MLflow records, and what a resumed project leaves alone."""
    import mlflow

    folder = tmp_path / "project"
    make_project(folder, mlflow_template)
    for name in ("base", "encode", "train", "sample", "evaluate"):
        change(folder / f"conf/base/parameters_{name}.yml", {name: {"device": "cuda"}})
    change(folder / "conf/base/tracking.yml", {"system_metrics_every": 0.2})
    run(folder, "git", "init", "-q", "-b", "main")
    commit(folder, "A project")
    run(folder, "dvc", "repro")

    comparison = json.loads((folder / "data/08_reporting/comparison.json").read_text())
    assert comparison["provenance"]["device"] == torch.cuda.get_device_name()
    assert all(comparison["fairness"].values())
    assert comparison["columns"]["parallel"]["peak_memory_bytes"] > 0
    assert comparison["paired_step_times"], comparison["timing_note"]
    frames = [
        load_file(folder / f"data/07_model_output/{mode}/frames.safetensors")["frames"] for mode in MODES
    ]
    assert frames[0].shape == frames[1].shape
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns/mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("mobius").experiment_id])
    trained = [one for one in found if one.info.run_name in MODES]
    assert len(trained) == 2
    for one in trained:
        assert any(name.startswith("system/gpu_0") for name in one.data.metrics), sorted(one.data.metrics)
    assert "Data and pipelines are up to date" in run(folder, "dvc", "status")


def test_the_plan_times_this_gpu() -> None:
    base = tiny.unet()
    shape = StepShape(batch=2, frames=4, height=16, width=16, tokens=12)
    recipes = [Recipe(tiny.variant(mode)) for mode in MODES]
    device = training_device("here", dict(base.config), recipes, shape, "cuda")
    assert device.queued
    assert device.memory_bytes
    assert 0 < device.issue_s < 1e-2
    step = training_step(
        build_model(tiny.variant("serial"), base, seed=0).to("cuda"),
        [tensor.to("cuda") for tensor in model_inputs(base.config, shape)],
    )
    timer = StepTimer(3, torch.device("cuda"))
    for _ in range(13):
        with timer:
            step.run()
    cost = predict_training(base.config, tiny.variant("serial"), shape)
    assert 0.3 < seconds(cost.operations, device) / timer.median_s < 3  # on the order of a step's time
