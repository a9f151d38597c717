"""Draws depend only on seed, step and clip."""

from collections import Counter

import torch

from mobius_pipeline.training.draws import Batches, draw

SHAPE = (4, 3, 2, 2)


def test_a_draw_does_not_depend_on_global_state() -> None:
    one = draw(0, 5, "clip", SHAPE, 1000, 0.5)
    torch.manual_seed(123)
    two = draw(0, 5, "clip", SHAPE, 1000, 0.5)
    assert torch.equal(one.noise, two.noise)
    assert torch.equal(one.posterior, two.posterior)
    assert (one.timestep, one.drop_caption) == (two.timestep, two.drop_caption)


def test_seed_step_and_clip_all_count() -> None:
    noises = [
        draw(*key, SHAPE, 1000, 0.5).noise  # type: ignore[arg-type]
        for key in [(0, 5, "clip"), (1, 5, "clip"), (0, 6, "clip"), (0, 5, "other")]
    ]
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 4


def test_draws_are_spread_as_they_should_be() -> None:
    draws = [draw(0, step, "clip", SHAPE, 10, 0.25) for step in range(2000)]
    assert 0.2 < sum(one.drop_caption for one in draws) / 2000 < 0.3
    assert min(Counter(one.timestep for one in draws).values()) > 140
    assert abs(torch.stack([one.noise for one in draws]).std().item() - 1) < 0.01


def test_each_epoch_takes_every_clip_once() -> None:
    clips = list("abcdefg")
    order = Batches([clips], 2, seed=0)
    epochs = [[order.at(step) for step in range(e * 3, e * 3 + 3)] for e in range(3)]
    for epoch in epochs:
        taken = [clip for batch in epoch for clip in batch]
        assert len(set(taken)) == len(taken) == 6  # the seventh clip waits for another epoch
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[1] == [Batches([clips], 2, seed=0).at(step) for step in range(3, 6)]


def test_a_batch_is_of_one_bucket_and_their_batches_mix() -> None:
    buckets = ["abcdefg", "ABCD", "0"]
    order = Batches(buckets, 2, seed=0)
    steps = [order.at(step) for step in range(10)]
    kinds = [{item.isupper() for item in batch} for batch in steps]
    assert all(len(kind) == 1 for kind in kinds)
    assert not any("0" in batch for batch in steps)  # the third bucket fills no batch
    for epoch in (steps[:5], steps[5:]):
        taken = [item for batch in epoch for item in batch]
        assert len(set(taken)) == len(taken) == 10
    assert kinds[:5] not in ([{False}] * 3 + [{True}] * 2, [{True}] * 2 + [{False}] * 3)
