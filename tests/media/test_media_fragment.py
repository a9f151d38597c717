"""Names of segments can be read back, and a real file with such a name is left alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.media_fragment import split_fragment, with_fragment


@given(st.integers(0, 10**10), st.integers(1, 10**10))
def test_what_is_written_is_read_back(start_us: int, length_us: int) -> None:
    start, end = start_us / 10**6, (start_us + length_us) / 10**6
    assert split_fragment(Path(with_fragment("a/b.mp4", start, end))) == (Path("a/b.mp4"), start, end)
    assert split_fragment(Path(with_fragment("a/b.mp4", start, None))) == (Path("a/b.mp4"), start, None)


def test_names_are_short() -> None:
    assert with_fragment("a/b.mp4", 1.5, 3.25) == "a/b.mp4#t=1.5,3.25"
    assert with_fragment("a/b.mp4", 0, 10) == "a/b.mp4#t=0,10"
    assert with_fragment("a/b.mp4", 1 / 3, None) == "a/b.mp4#t=0.333333"


@pytest.mark.parametrize(
    "name", ["b.mp4", "b.mp4#t=", "b.mp4#t=x,2", "b.mp4#t=-1,2", "b.mp4#t=1,2,3", "#t=1,2", "b#t=1,2.mp4"]
)
def test_other_names_are_no_segments(name: str) -> None:
    assert split_fragment(Path("a") / name) == (Path("a") / name, 0.0, None)


def test_the_start_may_be_left_out() -> None:
    assert split_fragment(Path("b.mp4#t=,2")) == (Path("b.mp4"), 0.0, 2.0)


def test_a_file_of_that_very_name_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "b.mp4#t=1,2"
    path.touch()
    assert split_fragment(path) == (path, 0.0, None)


@pytest.mark.parametrize("fragment", ["2,1", "2,2", ",0"])
def test_a_segment_without_length_is_refused(fragment: str) -> None:
    with pytest.raises(MediaError, match="must end after its start"):
        split_fragment(Path(f"b.mp4#t={fragment}"))
