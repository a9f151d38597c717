"""Test the report in a real browser: it plays, fits, sends no requests and respects user settings."""

from pathlib import Path
from typing import Any

import pytest

import comparison_example
from mobius_pipeline.comparison.report import render_report

PLAYING = """() => [...document.querySelectorAll("video")].slice(0, 6)
  .every(video => video.videoWidth > 0 && video.currentTime > 0)"""
UNNAMED = """[...document.querySelectorAll("video, svg[role=img]")]
  .filter(node => !node.getAttribute("aria-label")).length"""
CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter(node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())
      && !["SCRIPT", "STYLE"].includes(node.tagName))
    .map(node => {
      const style = getComputedStyle(node);
      const ink = parse(node instanceof SVGElement ? style.fill : style.color);
      const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), node.tagName + ": " + node.textContent.trim().slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, sample_media: Path) -> Path:
    path = tmp_path_factory.mktemp("report") / "comparison.html"
    path.write_text(render_report(comparison_example.comparison(), sample_media), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory: pytest.TempPathFactory, sample_media: Path) -> Path:
    """A report with the largest number of columns."""
    path = tmp_path_factory.mktemp("wide") / "comparison.html"
    path.write_text(render_report(comparison_example.several(), sample_media), encoding="utf-8")
    return path


def opened(browser: Any, report: Path, width: int = 900, **settings: Any) -> Any:
    page = browser.new_context(viewport={"width": width, "height": 900}, **settings).new_page()
    own = ("data:", report.as_uri())
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(own) or page.complaints.append(request.url))
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("width", [390, 900, 1500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_is_legible_and_keeps_to_itself(
    browser: Any, report: Path, artifacts: Path, width: int, scheme: str
) -> None:
    page = opened(browser, report, width, color_scheme=scheme)
    page.screenshot(path=artifacts / f"report-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert page.complaints == []
    page.context.close()


@pytest.mark.parametrize("width", [390, 1500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_many_columns_fit_and_are_legible(
    browser: Any, wide_report: Path, artifacts: Path, width: int, scheme: str
) -> None:
    page = opened(browser, wide_report, width, color_scheme=scheme)
    page.screenshot(path=artifacts / f"report-of-many-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert page.complaints == []
    page.context.close()


def test_its_table_fits_a_phone(browser: Any, report: Path) -> None:
    page = opened(browser, report, 390)
    assert page.evaluate(
        "(b => b.scrollWidth <= b.clientWidth)(document.querySelector('.main').parentElement)"
    )
    page.context.close()


def test_its_videos_play_until_they_are_paused(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    page.locator("#playing").scroll_into_view_if_needed()
    page.locator(".prompt").first.scroll_into_view_if_needed()
    page.wait_for_function(PLAYING, timeout=10_000)
    page.get_by_role("button", name="Pause all videos").click()
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
    page.get_by_role("button", name="Play all videos").click()
    page.wait_for_function("[...document.querySelectorAll('video')].some(v => !v.paused)")
    assert page.complaints == []
    page.context.close()


def test_its_videos_rest_for_those_who_want_less_motion(browser: Any, report: Path) -> None:
    page = opened(browser, report, reduced_motion="reduce")
    page.locator(".prompt").first.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
    assert page.get_by_role("button", name="Play all videos").is_visible()
    page.context.close()


def test_pictures_have_words_and_the_keyboard_reaches_everything(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    assert page.evaluate(UNNAMED) == 0
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.getAttribute('aria-labelledby')"
            )
        )
    assert {"table", "playing", "scores", "buckets"} <= reached
    page.context.close()
