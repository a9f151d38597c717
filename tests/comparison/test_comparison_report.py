"""Test the report's texts and numbers without a browser; `tests/end_to_end` opens it in one."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import comparison_example
from comparison_example import changed, column, quality
from mobius_pipeline.comparison import charts, curves, report, summary, ties
from mobius_pipeline.comparison.model import Comparison, SampleVideo
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.units import size
from mobius_pipeline.training.metrics import Curves


@pytest.fixture
def comparison() -> Comparison:
    return comparison_example.comparison()


@pytest.fixture
def page(comparison: Comparison, sample_media: Path) -> str:
    return report.render_report(comparison, sample_media)


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    sources = re.findall(r'(?:src|poster)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:video/mp4;base64,") for source in sources)
    assert not re.search(r"url\(|@import|<link", page)
    assert len(page) < 5e6


def test_the_page_holds_the_figures_and_the_reasons(page: str, comparison: Comparison) -> None:
    for text in (
        "2.08 GiB",
        "1.23 GiB",
        "412 ms",
        f"{summary.MINUS}40.9%",
        "0.2612",
        "cut off, only 45 frames",
        "0 to 1.25",
        "kept, with a warning",
        "Fréchet",
        "A still frame",
    ):
        assert text in page
    assert page.count("<video") == 11  # four prompts in three columns; the last has no real clip
    assert page.count("no clip has this caption") == 1


def test_several_columns_stand_against_the_first(sample_media: Path) -> None:
    several = comparison_example.several()
    page = report.render_report(several, sample_media)
    text = re.sub(r"<[^>]*>", " ", page)
    assert "Comparison of 8 trainings" in text
    assert (
        page.count('<th scope="col">Change</th>') == 7
    )  # in the loss by timestep; in the main table, changes are below the values
    assert "0.2340 ± 0.0031" in text
    assert "parallel (width 0.5) 3" in text
    assert text.count(several.timing_note) == 2  # in the verdict and above the table
    assert page.count("not sampled") == len(comparison_example.PROMPTS)
    assert 'class="tiles"' not in page


def test_a_run_is_linked_where_the_ui_shows_it(page: str) -> None:
    assert re.findall(r'href="([^"]*)"', page) == ["http://127.0.0.1:5000/#/experiments/1/runs/serial-run"]
    assert "make ui" in page


def test_prompts_are_text_and_never_markup(page: str) -> None:
    assert "a green &lt;b&gt;square&lt;/b&gt; &amp; a &#34;quote&#34;" in page
    assert "<b>square" not in page


def test_a_missing_video_is_named(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match=r"real/000.mp4.*missing"):
        report.render_report(comparison, tmp_path)


def test_videos_beyond_the_budget_are_left_out_with_a_warning(
    comparison: Comparison, sample_media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sum(
        len(report.data_uri(sample_media / name / "000.mp4")) for name in ("real", "serial", "parallel")
    )
    monkeypatch.setattr(report, "MEDIA_BUDGET", int(one * 1.5))
    page = report.render_report(comparison, sample_media)
    assert page.count("<article") == 1
    assert "3 more samples are left out" in page


def test_an_unfair_comparison_says_so_first(comparison: Comparison, sample_media: Path) -> None:
    unfair = changed(comparison, "fairness", same_steps=False)
    page = report.render_report(unfair, sample_media)
    assert page.count("This comparison is not fair: its columns differ in steps.") == 2
    assert unfair.verdict.startswith("This comparison is not fair: its columns differ in steps.")


def test_unscored_data_shows_dashes(comparison: Comparison, sample_media: Path) -> None:
    nothing = dict.fromkeys(("prompt_match", "colour", "shape", "motion"))
    unscored = comparison
    for place in (("columns", "serial", "quality"), ("columns", "parallel", "quality"),
                  ("references", "real"), ("references", "still"), ("references", "random")):  # fmt: skip
        unscored = changed(unscored, *place, **nothing)
    assert unscored.relative_percent["parallel"].prompt_match is None
    assert "not scored" in unscored.verdict
    assert summary.rows(unscored)[-2] == (
        "Samples that match",
        "",
        (summary.NONE, summary.NONE),
        (summary.NONE,),
    )
    report.render_report(unscored, sample_media)


def test_prompts_without_real_clips_have_no_references(comparison: Comparison, sample_media: Path) -> None:
    alone = changed(comparison, "references", real=None, still=None, random=None)
    assert [row["name"] for row in report.scores(alone)] == ["Serial", "Parallel"]
    assert "real clips" not in alone.verdict
    report.render_report(alone, sample_media)


def test_the_verdict_says_where_serial_is_better(comparison: Comparison) -> None:
    said = comparison.verdict
    assert said.startswith(
        "Recommended: serial if 2.08 GiB are available, otherwise parallel. Parallel needs 40.9% "
    )
    assert "less peak memory than serial (1.23 GiB against 2.08 GiB), and at equal compute its" in said
    assert "at equal steps parallel +1.2% (+0.4% to +2.0% over 36 clips); at equal compute parallel" in said
    assert "parallel and serial tie, with 4 samples each" in said
    assert "one seed" in said


def test_the_verdict_follows_the_numbers(comparison: Comparison) -> None:
    parallel = ("columns", "parallel")
    more = comparison.columns["serial"].peak_memory_bytes * 1.4
    heavy = changed(comparison, *parallel, peak_memory_bytes=more)
    assert "needs 40.0% more peak memory than serial" in heavy.verdict
    slow = changed(comparison, *parallel, step_s=0.40, step_s_iqr=(0.38, 0.42))
    assert "are a tie" in slow.verdict


def test_a_loss_within_its_interval_is_a_tie(comparison: Comparison) -> None:
    def with_change(low: float | None, high: float | None, of: tuple[str, ...]) -> str:
        pairs = 1 if low is None else 36
        return changed(comparison, *of, "parallel", percent=-1.0, low=low, high=high, pairs=pairs).verdict

    steps, start = ("points", "steps", "against"), ("heldout_change",)
    assert "+0.1% over 36 clips), a tie; at equal compute" in with_change(-2.0, 0.1, steps)
    assert "over 36 clips); at equal compute" in with_change(-2.0, -0.1, steps)
    assert "(1 clip, no interval); at equal compute" in with_change(None, None, steps)
    assert "did not clearly improve parallel over the untrained base" in with_change(-2.0, 0.1, start)
    assert "did not clearly improve" not in with_change(-2.0, -0.1, start)


@pytest.mark.parametrize(
    ("memory", "low", "high", "advice"),
    [
        (0.6, -3.0, -1.0, "parallel. Parallel needs 40.0% less peak memory than serial (1.25 GiB"),
        (0.6, -1.0, 1.0, "parallel. Parallel needs 40.0% less peak memory than serial (1.25 GiB"),
        (0.6, 1.0, 3.0, "serial if 2.08 GiB are available, otherwise parallel. Parallel needs 40.0% less"),
        (1.5, -3.0, -1.0, "parallel if 3.12 GiB are available, otherwise serial. Parallel needs 50.0% more"),
        (1.5, -1.0, 1.0, "serial. Parallel needs 50.0% more"),
        (0.6, None, None, "neither, because the loss difference has no interval. Parallel needs 40.0% less"),
    ],
)
def test_it_recommends_a_mode_for_a_memory(
    comparison: Comparison, memory: float, low: float | None, high: float | None, advice: str
) -> None:
    bytes_of_it = int(comparison.columns["serial"].peak_memory_bytes * memory)
    other = changed(comparison, "columns", "parallel", peak_memory_bytes=bytes_of_it)
    other = changed(other, "points", "compute", "against", "parallel", percent=1.0, low=low, high=high)
    assert f"Recommended: {advice}" in other.verdict


VIDEO = SampleVideo(prompt="", seed=0, mp4="a.mp4", gif="a.gif", clip=None)


def test_a_gap_of_shares_needs_samples() -> None:
    def gap(serial: float, parallel: float, samples: int, seeds: int = 1) -> int:
        one, other = (
            column(
                "serial",
                2.0,
                0.4,
                0.2,
                quality=quality(match, 0.8),
                samples=[VIDEO] * samples,
                seeds=[0] * seeds,
            )
            for match in (serial, parallel)
        )
        return ties.matches_differ(one, other)

    assert gap(0.5, 0.7, 10) == 0
    assert gap(0.5, 0.7, 400) == 1
    assert gap(0.5, 0.7, 10, seeds=40) == 1
    assert gap(0.9, 0.1, 16) == -1


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (size, 3 * 2**20, "3.0 MiB"),
        (size, 5 * 2**30, "5.00 GiB"),
        (summary.duration, 0.0123, "12 ms"),
        (summary.duration, 45.67, "45.7 s"),
        (summary.duration, 301, "301 s"),
        (summary.duration, 1200, "20.0 min"),
        (summary.duration, 9000, "2.5 h"),
        (summary.count, 4_210_000, "4.21 M"),
        (summary.count, 12, "12"),
        (summary.percent, -0.04, "0.0%"),
        (summary.percent, -12.34, f"{summary.MINUS}12.3%"),
        (summary.percent, 3.0, "+3.0%"),
        (summary.percent, None, summary.NONE),
    ],
)
def test_numbers_are_written_for_people(write: Any, value: Any, text: str) -> None:
    assert write(value) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_distinct_and_enclose_their_range(low: float, span: float) -> None:
    ticks = charts.ticks(low, low + span)
    slack = 1e-6 * max(abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 9
    assert len(set(charts.labels(ticks))) == len(ticks)


def test_smoothing_keeps_a_line_and_its_length() -> None:
    line = [2.0 * index for index in range(100)]
    smooth = charts.smoothed(line)
    assert len(smooth) == 100
    assert smooth[50] == pytest.approx(100.0)
    assert charts.smoothed([1.0]) == [1.0]
    assert charts.smoothed([]) == []


def test_charts_stay_in_their_frame_and_describe_themselves() -> None:
    curve = [(float(step), 1 / (step + 1)) for step in range(1000)]
    chart = charts.line_chart("Loss", "Step", {"serial": curve}, start=1.5)
    points = chart.lines[0].points
    assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in points)
    assert chart.description == "Loss: serial from 1.0000 to 0.0010; the untrained base is at 1.5000."


def test_an_empty_history_still_draws() -> None:
    assert charts.line_chart("Loss", "Step", {"serial": []}).lines[0].path == ""


@pytest.mark.parametrize("steps", [0, 1, 299, 300, 301, 5000, 100_001])
def test_curves_of_any_length_stay_short_and_keep_their_mean_and_ends(steps: int) -> None:
    rows = [(step, math.sin(step), 0.5 * step) for step in range(1, steps + 1)]
    thin = curves.thinned(Curves(loss=rows, heldout=rows))
    assert len(thin.loss) <= curves.MOST_ROWS
    assert len(thin.heldout) <= curves.MOST_ROWS + 1
    if steps <= curves.MOST_ROWS:
        assert thin.loss == thin.heldout == rows
    else:
        assert thin.heldout[0] == rows[0]
        assert thin.heldout[-1] == rows[-1]
        assert thin.loss[-1][::2] == rows[-1][::2]
        mean = sum(value for _, value, _ in thin.loss) / len(thin.loss)
        assert mean == pytest.approx(sum(value for _, value, _ in rows) / steps, abs=0.02)


def test_a_tie_is_one_in_the_table_and_the_tiles_as_in_the_verdict(comparison: Comparison) -> None:
    def changes(comparison: Comparison) -> dict[str, str]:
        tiles = report.tiles(comparison)
        rows = {row.name: row.changes[0] for row in summary.rows(comparison)}
        assert {tile.name: tile.changes[0] for tile in tiles}.items() <= rows.items()
        return rows

    clear = changes(comparison)
    assert clear["Median step time"] == "\N{MINUS SIGN}30.3%"
    assert clear["Loss, equal steps"] == "+1.2%"
    assert clear["Samples that match"].endswith(" (tie)")
    near = changed(comparison, "columns", "parallel", step_s_iqr=(0.2, 0.5))
    near = changed(near, "points", "steps", "against", "parallel", low=-0.1)
    assert changes(near)["Median step time"] == "\N{MINUS SIGN}30.3% (tie)"
    assert changes(near)["Loss, equal steps"] == "+1.2% (tie)"
    assert "step times of parallel and serial" in near.verdict
    assert "+2.0% over 36 clips), a tie" in near.verdict


def test_the_start_s_line_is_of_the_clips_that_the_curves_are_of(comparison: Comparison) -> None:
    other = changed(comparison, "start", heldout_loss=0.4)  # over all clips
    first_loss = comparison.columns["serial"].history.heldout[0][1]
    assert f"base is at {first_loss:.4f}" in report.loss_charts(other)[0].description
    assert report.watched(other) is None
    assert report.watched(changed(other, "columns", "parallel", watched=8)) == 8
