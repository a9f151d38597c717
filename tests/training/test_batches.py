"""Batches of a clip, against values computed from its draws."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

import tiny
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training.batches import BatchSource
from mobius_pipeline.training.draws import draw

SCALING, STEPS = 0.5, 1000


def source(store: LatentsStore, **objective: float) -> BatchSource:
    plain = tiny.train_config().objective.model_copy(update={"noise_offset": 0.0, "caption_dropout": 0.0})
    return BatchSource(store, plain.model_copy(update=objective), STEPS, SCALING, seed=7)


def test_latents_are_a_scaled_sample_of_the_posterior(tiny_store: Path) -> None:
    store = LatentsStore(tiny_store)
    clips = store.clips("train")[:2]
    batch = source(store).batch(clips, step=3)
    for i, clip in enumerate(clips):
        mean, logvar = store.moments(clip)
        drawn = draw(7, 3, clip.clip_id, mean.shape, STEPS, 0.0)
        deviation = logvar.exp().sqrt()
        torch.testing.assert_close(batch.latents[i], 0.5 * mean + 0.5 * deviation * drawn.posterior)
        assert torch.equal(batch.noise[i], drawn.noise)
        assert batch.timestep[i] == drawn.timestep
        assert torch.equal(batch.text[i], store.text(clip))


def test_noise_offset_moves_whole_channels(tiny_store: Path) -> None:
    """The offset is a tenth of a standard normal number, the same for all frames and positions of a clip."""
    store = LatentsStore(tiny_store)
    clips = store.clips("train")[:2]
    plain, moved = (source(store, noise_offset=offset).batch(clips, 3).noise for offset in (0.0, 0.1))
    shift = (moved - plain).flatten(2)
    assert shift.std(dim=2).max() < 1e-6
    for i, clip in enumerate(clips):
        drawn = draw(7, 3, clip.clip_id, plain.shape[1:], STEPS, 0.0)
        torch.testing.assert_close(shift[i].mean(1), 0.1 * drawn.offset.flatten(), atol=1e-6, rtol=1e-4)


def test_captions_are_dropped_at_the_rate(tiny_store: Path) -> None:
    store = LatentsStore(tiny_store)
    clips = store.clips("train")
    often = source(store, caption_dropout=0.3)
    texts = [text for step in range(30) for text in often.batch(clips, step).text]
    dropped = sum(torch.equal(text, store.no_text) for text in texts)
    share, deviation = dropped / len(texts), (0.3 * 0.7 / len(texts)) ** 0.5
    assert abs(share - 0.3) < 4 * deviation


def test_each_caption_of_a_clip_is_drawn_as_often(tiny_store: Path) -> None:
    """A clip with three captions; all other draws are the same as with one."""
    store = LatentsStore(tiny_store)
    one, two, three = store.clips("train")[:3]
    several = replace(
        one,
        captions=(one.caption, two.caption, three.caption),
        text_shards=(*one.text_shards, *two.text_shards, *three.text_shards),
        text_rows=(*one.text_rows, *two.text_rows, *three.text_rows),
    )
    counts = Counter[int]()
    for step in range(90):
        plain, drawn = (source(store, caption_dropout=0.1).batch([clip], step) for clip in (one, several))
        assert torch.equal(plain.latents, drawn.latents)
        assert torch.equal(plain.noise, drawn.noise)
        assert torch.equal(plain.timestep, drawn.timestep)
        dropped = torch.equal(plain.text[0], store.no_text)
        assert torch.equal(drawn.text[0], store.no_text) == dropped
        if not dropped:
            texts = [store.text(several, i) for i in range(3)]
            counts[[torch.equal(drawn.text[0], text) for text in texts].index(True)] += 1
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 15
