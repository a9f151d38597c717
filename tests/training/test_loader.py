"""The batches of a training, drawn ahead."""

import threading
from typing import Any

import pytest

from mobius_pipeline.training.loader import Loader


def test_every_step_gets_its_own_batch_whether_drawn_ahead_or_not() -> None:
    loader = Loader(lambda step: [step])  # type: ignore[list-item]
    with loader.ahead():
        taken: list[Any] = [loader.take(step, more=True) for step in (0, 1, 5, 6, 2)]
    taken.append(loader.take(7, more=True))
    assert taken == [[0], [1], [5], [6], [2], [7]]
    assert len(loader.waited) == 6


def test_the_next_batch_is_drawn_while_a_step_runs() -> None:
    drawn, threads = threading.Event(), []

    def draw(step: int) -> list[Any]:
        threads.append(threading.current_thread())
        if step == 1:
            drawn.set()
        return []

    loader = Loader(draw)
    with loader.ahead():
        loader.take(0, more=True)
        assert drawn.wait(60)  # nobody has asked for step 1 yet
        loader.take(1, more=False)
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()
    assert len(threads) == 2


def test_what_fails_in_drawing_ahead_fails_the_step_that_takes_it() -> None:
    def draw(step: int) -> list[Any]:
        if step == 1:
            raise OSError("no such shard")
        return []

    loader = Loader(draw)
    with loader.ahead():
        loader.take(0, more=True)
        with pytest.raises(OSError, match="no such shard"):
            loader.take(1, more=True)
