"""The loop: its start, what it learns, how it resumes, and its golden losses."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import golden
import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.grid import GAP
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.signals import Terminated, sigterm_raises
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.checkpoints import Progress, newest_checkpoint
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.history import History
from mobius_pipeline.training.optimization import moving_average
from mobius_pipeline.training.previews import Preview, picture
from mobius_pipeline.training.train_mode import (
    build_trainer,
    fingerprints,
    start_heldout_loss,
    training_costs,
)
from mobius_pipeline.training.trainer import Trainer

pytestmark = pytest.mark.slow

MODES = ("serial", "parallel")


def trainer(
    mode: Mode, store: Path, base: Path, folder: Path, callbacks: Callbacks | None = None, **changes: Any
) -> Trainer:
    config = tiny.train_config(**changes)
    return build_trainer(
        LatentsStore(store), BaseModel(base), tiny.variant(mode), config, folder, callbacks or Callbacks()
    )


@pytest.mark.parametrize("mode", MODES)
def test_starts_at_the_loss_of_the_base(
    mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    one = trainer(mode, tiny_store, tiny_base, tmp_path)
    start = start_heldout_loss(one.store, BaseModel(tiny_base), one.config)
    measured = one.evaluate_all()
    assert measured.loss == pytest.approx(start.loss, rel=1e-6)
    assert measured.by_timestep == pytest.approx(start.by_timestep, rel=1e-6)
    if mode == "parallel":
        assert measured == start


@pytest.mark.parametrize("mode", MODES)
def test_learns(mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    one = trainer(mode, tiny_store, tiny_base, tmp_path, steps=40, evaluate_every=40, checkpoint_every=40)
    one.train()
    (_, before, _), (step, after, _) = one.history.heldout
    assert step == 40
    assert after < 0.9 * before


def weights(one: Trainer) -> dict[str, torch.Tensor]:
    trained, ema = one.optimization.trained, one.optimization.ema
    shadows = {f"ema.{name}": tensor for name, tensor in zip(trained, ema.shadow_params, strict=True)}
    return {**{name: parameter.detach() for name, parameter in trained.items()}, **shadows}


@pytest.mark.parametrize("mode", MODES)
def test_goes_on_exactly_after_a_break(mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    straight = trainer(mode, tiny_store, tiny_base, tmp_path / "straight")
    straight.train()

    class BrokenError(Exception):
        pass

    def break_at_five(metrics: dict[str, float], step: int) -> None:
        if step == 5:
            raise BrokenError

    with pytest.raises(BrokenError):
        trainer(mode, tiny_store, tiny_base, tmp_path / "broken", Callbacks(metrics=break_at_five)).train()
    resumed = trainer(mode, tiny_store, tiny_base, tmp_path / "broken")
    resumed.train()

    assert [loss for _, loss, _ in resumed.history.loss] == [loss for _, loss, _ in straight.history.loss]
    assert [loss for _, loss, _ in resumed.history.heldout] == [
        loss for _, loss, _ in straight.history.heldout
    ]
    assert resumed.history.further == straight.history.further
    for times in ("seconds", "waited"):
        assert len(getattr(resumed.history, times)) == len(getattr(straight.history, times))
    expected = weights(straight)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
@pytest.mark.parametrize("during", ["loss", "heldout_loss"])
def test_stopped_by_hand_it_saves_and_goes_on(
    number: signal.Signals,
    raised: type[BaseException],
    during: str,
    tiny_store: Path,
    tiny_base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    straight = trainer("parallel", tiny_store, tiny_base, tmp_path / "straight")
    straight.train()

    def stop(metrics: dict[str, float], step: int) -> None:
        if step == 3 and during in metrics:
            signal.raise_signal(number)

    stopped = trainer("parallel", tiny_store, tiny_base, tmp_path / "stopped", Callbacks(metrics=stop))
    with pytest.raises(raised), sigterm_raises():
        stopped.train()
    assert "Stopped at step 3 of 6. Run the same command to resume from there" in caplog.text
    checkpoint = newest_checkpoint(tmp_path / "stopped")
    assert checkpoint is not None
    assert checkpoint.step == 3  # not a multiple of checkpoint_every

    resumed = trainer("parallel", tiny_store, tiny_base, tmp_path / "stopped")
    resumed.train()
    for of in ("loss", "heldout"):
        rows, expected = getattr(resumed.history, of), getattr(straight.history, of)
        assert [tuple(row[:2]) for row in rows] == [tuple(row[:2]) for row in expected]
    expected_weights = weights(straight)
    assert all(torch.equal(tensor, expected_weights[name]) for name, tensor in weights(resumed).items())


def test_both_modes_see_the_same_draws(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    (serial,), (parallel,) = (trainer(mode, tiny_store, tiny_base, tmp_path).batch(3) for mode in MODES)
    assert torch.equal(serial.latents, parallel.latents)
    assert torch.equal(serial.noise, parallel.noise)
    assert torch.equal(serial.timestep, parallel.timestep)
    assert torch.equal(serial.text, parallel.text)


def test_metrics_are_measured(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    one = trainer("parallel", tiny_store, tiny_base, tmp_path)
    one.train()
    costs = training_costs(one)
    trainable = sum(parameter.numel() for parameter in one.optimization.trained.values())
    assert costs.memory_breakdown_bytes.optimizer >= 2 * 4 * trainable  # AdamW's two moments
    assert sum(size for _, size in costs.memory_breakdown_bytes) == costs.peak_memory_bytes
    assert len(one.meter.timer.seconds) == costs.steps - 1  # the instrumented step is not timed
    assert costs.flops_per_step > 0


def test_not_a_number_stops_before_the_update(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    one = trainer("parallel", tiny_store, tiny_base, tmp_path)
    (batch,) = one.batch(0)
    before = {name: tensor.clone() for name, tensor in weights(one).items()}
    with pytest.raises(MobiusError, match=r"Step 0: the loss is nan.*there is no checkpoint yet.*\w{12} \("):
        one.train_step([replace(batch, noise=batch.noise * float("nan"))])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(one).items())


def test_too_few_clips(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="batch_size"):
        trainer("serial", tiny_store, tiny_base, tmp_path, batch_size=1000)


def test_fingerprints_follow_what_they_name(tiny_store: Path, tiny_base: Path) -> None:
    store, config, model = LatentsStore(tiny_store), tiny.train_config(), tiny.variant("serial")
    marks = fingerprints(store, BaseModel(tiny_base), model, config)
    other: TrainConfig = tiny.train_config(steps=7)
    assert fingerprints(store, BaseModel(tiny_base), model, config) == marks
    assert fingerprints(store, BaseModel(tiny_base), model, other).combined != marks.combined
    assert (
        fingerprints(store, BaseModel(tiny_base), tiny.variant("parallel"), config).combined != marks.combined
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors, name: tensors.pop(f"model.{name}"), "missing: {name}"),
        (lambda tensors, name: tensors.pop(f"ema.{name}"), "missing: {name}"),
        (lambda tensors, name: tensors.pop(f"optimizer.{name}.exp_avg"), "missing or misshapen: .*{name}"),
        (lambda tensors, name: tensors.update({f"model.{name}": torch.zeros(1, 2, 3)}), "misshapen: {name}"),
        (
            lambda tensors, name: tensors.update({f"optimizer.{name}.exp_avg": torch.zeros(3)}),
            "missing or misshapen: .*{name}",
        ),
        (lambda tensors, name: tensors.update({"model.more": torch.zeros(1)}), "unexpected: more"),
        (lambda tensors, name: tensors.update({"optimizer.more.step": torch.zeros(1)}), "no trained"),
    ],
    ids=["weight", "average", "moment", "shape", "moment's shape", "more", "more states"],
)
def test_a_checkpoint_of_another_model_is_refused(
    change: Callable[[dict[str, torch.Tensor], str], Any],
    named: str,
    tiny_store: Path,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    one = trainer("parallel", tiny_store, tiny_base, tmp_path)
    one.train_step(one.batch(0))
    state = one.state_dict()
    name = next(iter(one.optimization.trained))
    change(state.tensors, name)
    match = f"The checkpoint of step 0 in .* does not fit the model.*{named.format(name=name)}"
    with pytest.raises(MobiusError, match=match):
        one.load_state_dict(state)


@pytest.mark.parametrize("mode", MODES)
def test_golden_losses(mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Refactoring changes no loss; `python tests/golden.py` writes the file."""
    losses = golden.losses(mode, tiny_store, tiny_base, tmp_path)
    stored = json.loads(golden.FILE.read_text())
    recorded = {name: known[mode] for name, known in stored["machines"].items() if mode in known}
    assert recorded
    if golden.machine() in recorded:
        assert losses == recorded[golden.machine()]
    for known in recorded.values():
        assert losses == pytest.approx(known, rel=golden.TOLERANCE)


def test_autocast_trains_in_float32_weights(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    plain, half = (
        trainer("parallel", tiny_store, tiny_base, tmp_path / str(kind), autocast=kind)
        for kind in (None, "bfloat16")
    )
    for one in (plain, half):
        one.train()
    assert all(parameter.dtype == torch.float32 for parameter in half.optimization.trained.values())
    losses = [[value for _, value, _ in one.history.loss] for one in (plain, half)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.usefixtures("torchao")
@pytest.mark.parametrize("mode", MODES)
def test_states_in_8_bits_come_back_from_a_checkpoint(
    mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    optimizer = {**tiny.train_config().model_dump()["optimizer"], "state_bits": 8}

    def trained(name: str, **changes: Any) -> Trainer:
        one = trainer(mode, tiny_store, tiny_base, tmp_path / name, **changes)
        with torch.compiler.set_stance("force_eager"):  # torchao compiles a step for every shape: a minute
            one.train()
        return one

    whole = trained("whole", optimizer=optimizer)
    trained("broken", optimizer=optimizer, steps=4)
    again = trained("broken", optimizer=optimizer)
    assert [row[1] for row in again.history.loss] == [row[1] for row in whole.history.loss]
    pairs = zip(weights(again).values(), weights(whole).values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    kept = [one.history.memory["breakdown"]["optimizer"] for one in (whole, trained("exact"))]
    if mode == "serial":  # all of parallel's moments are too small here for 8 bits, and some of serial's
        assert kept[0] < kept[1]
    else:
        assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("power", "decays"),
    [(None, [2 / 11, 3 / 12, 4 / 13]), (0.75, [1 - 2**-0.75, 1 - 3**-0.75, 0.6])],
)
def test_moving_average_warms_up(power: float | None, decays: list[float]) -> None:
    """A weight goes from 0 to 1; diffusers applies the first step fully (decay 0)."""
    weight = torch.nn.Parameter(torch.zeros(1))
    ema = moving_average([weight], tiny.train_config(ema_decay=0.6, ema_warmup_power=power))
    ema.step([weight])
    expected = 0.0
    with torch.no_grad():
        weight.fill_(1)
    for decay in decays:
        ema.step([weight])
        expected = decay * expected + (1 - decay)
        assert float(ema.shadow_params[0]) == pytest.approx(expected)


def test_losses_by_timestep_make_up_the_loss(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    heard: list[dict[str, float]] = []
    one = trainer(
        "parallel",
        tiny_store,
        tiny_base,
        tmp_path,
        Callbacks(metrics=lambda metrics, _: heard.append(metrics)),
    )
    one.train()
    width = one.objective.timesteps // 4
    for step, metrics in enumerate(metrics for metrics in heard if "loss" in metrics):
        (batch,) = one.batch(step)
        ranges = [int(timestep) // width for timestep in batch.timestep]
        parts = [metrics[f"loss/{i * width}-{(i + 1) * width - 1}"] for i in ranges]
        assert sum(parts) / len(parts) == pytest.approx(metrics["loss"])
        assert sum(name.startswith("loss/") for name in metrics) == len(set(ranges))
    heldout = [metrics for metrics in heard if "heldout_loss" in metrics]
    for metrics in heldout:
        assert len(metrics) == 5
        assert sum(list(metrics.values())[1:]) / 4 == pytest.approx(metrics["heldout_loss"])


@pytest.mark.parametrize("mode", MODES)
def test_previews_are_the_same_prompts_from_the_same_noise(
    mode: Mode, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Previews use the EMA weights and do not change the training."""
    settings = {"every": 2, "prompts": ["a red ring"], "count": 1, "steps": 2, "guidance_scale": 2, "seed": 3}
    shown: dict[int, list[Preview]] = {}

    def show(previews: list[Preview], step: int) -> None:
        shown[step] = previews

    plain = trainer(mode, tiny_store, tiny_base, tmp_path / "plain", steps=5)
    plain.train()
    callbacks = Callbacks(preview=show)
    one = trainer(mode, tiny_store, tiny_base, tmp_path / "shown", callbacks, steps=5, previews=settings)
    one.train()
    assert [loss for _, loss, _ in one.history.loss] == [loss for _, loss, _ in plain.history.loss]
    assert list(shown) == [2, 4, 5]
    assert all(preview.prompt == "a red ring" for (preview,) in shown.values())
    assert shown[5][0].frames.shape == (4, 16, 16, 3)
    assert (shown[2][0].frames != shown[5][0].frames).any()
    assert one.previewer is not None
    with one.optimization.ema_weights():
        again = one.previewer._sample(one.model)
    assert (again[0].frames == shown[5][0].frames).all()
    assert picture(again).shape == (64, 4 * 64 + 3 * GAP, 3)


@pytest.mark.parametrize("part", ["_sample", "_report"])
def test_an_interrupted_preview_is_sampled_when_the_training_resumes(
    part: str, tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    settings = {"every": 2, "prompts": ["a red ring"], "count": 1, "steps": 1, "guidance_scale": 1, "seed": 3}
    shown: list[int] = []

    def make() -> Trainer:
        callbacks = Callbacks(preview=lambda _, step: shown.append(step))
        folder = tmp_path / "state"
        return trainer("parallel", tiny_store, tiny_base, folder, callbacks, steps=5, previews=settings)

    def interrupt(*_: object) -> list[Preview]:
        raise KeyboardInterrupt

    one = make()
    assert one.previewer is not None
    setattr(one.previewer, part, interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.train()
    assert one.checkpointer.saved_step == 2
    make().train()
    assert shown == [2, 4, 5]
    make().train()  # finished: nothing is sampled again
    assert shown == [2, 4, 5]


def test_a_preview_of_an_earlier_versions_checkpoint_is_not_sampled_again(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    settings = {"every": 2, "prompts": ["a red ring"], "count": 1, "steps": 1, "guidance_scale": 1, "seed": 3}
    shown: list[int] = []
    callbacks = Callbacks(preview=lambda _, step: shown.append(step))
    one, other = (
        trainer("parallel", tiny_store, tiny_base, tmp_path, callbacks, steps=4, previews=settings)
        for _ in range(2)
    )
    one.train()
    assert shown == [2, 4]
    state = one.state_dict()
    written = state.progress.model_dump(mode="json")
    assert written["history"].pop("shown") == 4
    other.load_state_dict(replace(state, progress=Progress(**written)))
    assert other.previewer is not None
    assert not other.previewer.due(4)


def test_each_part_keeps_its_keys_of_the_history(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    settings = {"every": 2, "prompts": ["a red ring"], "count": 1, "steps": 1, "guidance_scale": 1, "seed": 3}
    one = trainer("parallel", tiny_store, tiny_base, tmp_path, previews=settings)
    keys = [key for part in one._parts for key in part.state_dict()]
    assert sorted(keys) == sorted(History.model_fields)


def test_the_loss_at_the_compared_step_is_on_the_curve(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    one = trainer("parallel", tiny_store, tiny_base, tmp_path, steps=4, last_step=8, evaluate_every=3)
    one.train()
    assert [step for step, _, _ in one.history.heldout] == [0, 3, 4, 6, 8]


def test_an_evaluation_takes_no_more_clips_at_once_than_a_part_of_a_step(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    sizes: list[int] = []
    one = trainer("serial", tiny_store, tiny_base, tmp_path, batch_size=4, gradient_accumulation_steps=2)
    one.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    one.evaluate_all()
    assert max(sizes) == 2
