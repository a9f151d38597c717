"""At least two sources are held out, but none that was trained on."""

from pathlib import Path

import pandas as pd
import pytest

from mobius_pipeline.ingest.split import split_fraction, split_of
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.validation.heldout import hold_out, trained_on

SHARE = 0.1
NAMES = [f"{number:064x}" for number in range(400)]
ABOVE = [name for name in NAMES if split_fraction(name) >= SHARE]  # that the share leaves to training
BELOW = [name for name in NAMES if split_fraction(name) < SHARE]


def clips(sources: list[str], groups: list[str] | None = None, segments: int = 2) -> pd.DataFrame:
    """A table with these numbers of clips per source, split as `ingest` does."""
    groups = groups or [""] * len(sources)
    rows = [
        (source, group, f"{source[-4:]}.mp4#t={part}", split_of(group or source, SHARE))
        for source, group in zip(sources, groups, strict=True)
        for part in range(segments)
    ]
    return pd.DataFrame(rows, columns=["source_sha256", "group", "path", "split"])


def held(manifest: pd.DataFrame) -> set[str]:
    split = manifest.groupby("source_sha256")["split"].agg(set)
    assert (split.map(len) == 1).all()  # no source is on both sides
    return {source for source, sides in split.items() if sides == {"heldout"}}


def lowest(sources: list[str], count: int = 2) -> set[str]:
    return set(sorted(sources, key=split_fraction)[:count])


@pytest.mark.parametrize("count", [3, 8, 20])
def test_where_the_share_leaves_none_the_lowest_two_are_held_out_and_named(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    sources = ABOVE[:count]
    assert held(hold_out(clips(sources), ())) == lowest(sources)
    assert f"ingest.heldout_share holds out 0 of {count} sources" in caplog.text
    for source in lowest(sources):
        assert f"{source[-4:]}.mp4#t=0" in caplog.text


def test_where_the_share_leaves_one_another_joins_it() -> None:
    sources = [*ABOVE[:10], BELOW[0]]
    assert held(hold_out(clips(sources), ())) == {BELOW[0]} | lowest(ABOVE[:10], 1)


def test_where_the_share_leaves_two_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    manifest = clips([*ABOVE[:20], *BELOW[:2]])
    pd.testing.assert_frame_equal(hold_out(manifest, ()), manifest)
    assert caplog.text == ""


def test_clips_that_are_added_move_none_from_training_to_the_held_out_ones() -> None:
    trained: set[str] = set()
    for count in range(3, 100):
        now = held(hold_out(clips(NAMES[:count], segments=1), ()))
        assert not now & trained
        assert len(now) >= 2
        trained |= set(NAMES[:count]) - now


def test_what_was_trained_on_stays_so_when_a_held_out_clip_goes(tmp_path: Path) -> None:
    before = hold_out(clips(ABOVE[:20]), ())
    before.to_parquet(tmp_path / "manifest.parquet")
    trained = trained_on(tmp_path / "manifest.parquet")
    assert trained == set(ABOVE[:20]) - held(before)
    gone, stays = sorted(held(before))
    new = ABOVE[20:24]
    left = [source for source in ABOVE[:20] if source != gone]
    after = held(hold_out(clips([*left, *new]), trained))
    assert after == {stays} | lowest(new, 1) or after == lowest([stays, *new])
    assert not after & trained


def test_too_few_are_said_where_all_others_were_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    sources = ABOVE[:8]
    left = hold_out(clips(sources), set(sources[1:]))
    assert held(left) == {sources[0]}
    assert "Only 1 of 8 sources are held out" in caplog.text
    assert "delete that manifest" in caplog.text


def test_one_source_is_left_to_train(caplog: pytest.LogCaptureFixture) -> None:
    assert held(hold_out(clips(ABOVE[:2]), ())) == lowest(ABOVE[:2], 1)
    assert "Only 1 of 2 sources are held out" in caplog.text
    assert "delete" not in caplog.text
    assert held(hold_out(clips(ABOVE[:1]), ())) == set()


def test_a_group_is_held_out_whole() -> None:
    groups = ["", "a", "b", "b", "c", "c"]
    found = hold_out(clips(ABOVE[:6], groups), ())
    names = [group or source for group, source in zip(groups, ABOVE, strict=False)]
    free = [name for name in names if split_fraction(name) >= SHARE]
    taken = lowest(list(dict.fromkeys(free)), 2 - len({*names} - {*free}))
    assert held(found) == {
        source
        for source, name in zip(ABOVE, names, strict=False)
        if name in taken or split_fraction(name) < SHARE
    }


def test_a_source_that_joins_a_group_was_still_trained_on() -> None:
    before = clips(ABOVE[:8])
    joined = clips(ABOVE[:8], ["together"] * 3 + [""] * 5)
    assert split_fraction("together") >= SHARE
    for trained in ({ABOVE[0]}, {"together"}):
        assert not held(hold_out(joined, {*trained, *ABOVE[3:6]})) - {*ABOVE[6:8]}
    assert len(held(hold_out(before, ()))) == 2


@pytest.mark.parametrize("content", [b"", b"no table", None])
def test_a_damaged_manifest_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    if content is None:
        pd.DataFrame({"other": [1]}).to_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(MobiusError, match=rf"{path} cannot be read .*Restore it"):
        trained_on(path)
    path.unlink()
    assert trained_on(path) == set()


def test_a_manifest_of_an_earlier_version_has_no_groups(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    pd.DataFrame({"source_sha256": ["a", "b"], "split": ["train", "heldout"]}).to_parquet(path)
    assert trained_on(path) == {"a"}


def test_the_places_of_names_are_the_same_in_every_version() -> None:
    """Otherwise an update would move clips that a model was trained on to the held-out ones."""
    names = {"a": 0.283133, "group/b": 0.605499, f"{1:064x}": 0.719234}
    assert {name: round(split_fraction(name), 6) for name in names} == names
