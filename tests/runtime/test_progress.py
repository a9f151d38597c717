"""Without a terminal, log lines report the progress instead of a bar."""

import logging

import pytest

from mobius_pipeline.runtime import progress


@pytest.mark.parametrize(
    ("seconds", "reported"), [(-1, ["base: 3 of 9 steps", "base: 4 of 9 steps"]), (60, [])]
)
def test_a_stage_tells_where_it_is(
    seconds: float, reported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_PER_LINE", seconds)
    with (
        caplog.at_level(logging.INFO, "mobius_pipeline"),
        progress.stage("base", 9, "steps", done=2) as bar,
    ):
        bar.advance()
        bar.advance()
    assert caplog.messages == reported


def test_a_stage_that_is_not_shown_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_PER_LINE", -1)
    with caplog.at_level(logging.INFO, "mobius_pipeline"):
        for _ in progress.track(range(2), "plan", 2, "models"):
            pass
        assert len(caplog.messages) == 2
        with progress.stage("base", 9, "steps", shown=False) as bar:
            bar.advance()
    assert len(caplog.messages) == 2
