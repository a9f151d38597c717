"""Each expectation fails once, and a clean table passes completely."""

import re
import subprocess
import sys
import textwrap
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from clip_rows import clip_row, rejected_row
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.validation.config import Range, ValidateConfig
from mobius_pipeline.validation.expectation import Expectation, kinds
from mobius_pipeline.validation.expectations import Validated, validate_clips
from mobius_pipeline.validation.user_expectations import decision, in_words

pytestmark = pytest.mark.slow

CLIP = ClipFormat(frames=8, height=32, width=32, fps=8)


def config(**changes: Any) -> ValidateConfig:
    section = yaml.safe_load(Path("conf/base/parameters_validate.yml").read_text())["validate"]
    return ValidateConfig(**(section | changes))


def clean(count: int = 12) -> list[dict[str, Any]]:
    return [clip_row(number) for number in range(count)]


BAD_ROWS = [
    ("no caption", "expect_column_values_to_match_regex caption", {"caption": ""}),
    ("no caption", "expect_column_values_to_match_regex caption", {"caption": " \n"}),
    ("no caption", "expect_column_values_to_not_be_null caption", {"caption": None}),
    ("no width", "expect_column_values_to_not_be_null width", {"width": None}),
    ("5 of 8 frames at 8 fps", "expect_column_values_to_be_between model_frames", {"model_frames": 5}),
    ("width 31 px, required 32 to 8192 px", "expect_column_values_to_be_between width", {"width": 31}),
    ("height 9000 px, required 32 to 8192 px", "expect_column_values_to_be_between height", {"height": 9000}),
    (
        "fps 0.5 frames a second, required 1 to 240 frames a second",
        "expect_column_values_to_be_between fps",
        {"fps": 0.5},
    ),
    (
        "duration_s 4000 s, required 0.1 to 3600 s",
        "expect_column_values_to_be_between duration_s",
        {"duration_s": 4000.0},
    ),
    (
        "split 'test' is not train or heldout",
        "expect_column_values_to_be_in_set split",
        {"split": "test"},
    ),
    ("duplicate of sub folder/clip é1.mp4", "expect_column_values_to_be_unique clip_id", {"clip_id": "id1"}),
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Validated, Path]:
    """A table with one row for every rule, a captioned twin of a captionless clip, and a rejected file."""
    bad = [clip_row(100 + number, **changes) for number, (*_, changes) in enumerate(BAD_ROWS)]
    twin = clip_row(100, path="twin.mp4")
    both = clip_row(200, caption="", model_frames=7)
    work = tmp_path_factory.mktemp("mixed") / "work"
    table = pd.DataFrame([rejected_row(0), *clean(), *bad, twin, both])
    table.to_parquet(work.parent / "clips.parquet")
    return validate_clips(pd.read_parquet(work.parent / "clips.parquet"), config(), CLIP, work), work


def test_each_bad_row_is_quarantined_with_its_expectation_and_reason(mixed: tuple[Validated, Path]) -> None:
    quarantine = mixed[0].quarantine
    expected = [(failed, reason) for reason, failed, _ in BAD_ROWS]
    assert list(zip(quarantine["failed"], quarantine["reason"], strict=True)) == [
        *expected,
        (
            "expect_column_values_to_match_regex caption;expect_column_values_to_be_between model_frames",
            "no caption; 7 of 8 frames at 8 fps",
        ),
        ("expect_column_values_to_be_in_set status", "not a video"),
    ]
    assert set(quarantine["duplicate_of"]) == {""}  # not NaN for the rejected ones, which nobody compared


def test_first_good_row_of_the_same_clip_is_kept(mixed: tuple[Validated, Path]) -> None:
    manifest = mixed[0].manifest
    assert list(manifest["path"]) == [row["path"] for row in clean()] + ["twin.mp4"]
    assert manifest["clip_id"].is_unique
    assert list(manifest.index) == list(range(13))
    assert manifest["width"].dtype == "int64"  # a rejected row had made it float


def test_data_docs_are_html_and_nothing_else_is_left(mixed: tuple[Validated, Path]) -> None:
    validated, work = mixed
    assert "<html" in (validated.data_docs / "index.html").read_text().lower()
    assert {path.name for path in work.iterdir()} == {validated.data_docs.name, "expectations_history"}


@pytest.mark.parametrize(
    ("suite", "texts"),
    [
        ("2 readable clips", ["clip é101.mp4"]),
        ("3 rejected files", ["bad0.mp4", "not a video"]),
        ("4 quarantined clips", ["clip é101.mp4", "no caption"]),
    ],
)
def test_data_docs_name_what_fails(suite: str, texts: list[str], mixed: tuple[Validated, Path]) -> None:
    (page,) = (mixed[0].data_docs / "validations" / suite).rglob("*.html")
    html = unescape(page.read_text())
    assert [text for text in texts if text not in html] == []


def test_clean_table_passes_whole_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mobius_pipeline")
    table = pd.DataFrame(clean()).assign(caption=["a red ball", "a blue cube"] * 6)
    validated = validate_clips(table, config(), CLIP, tmp_path)
    asked = validated.manifest.filter(like="keeps_")
    assert asked.all(axis=None)
    added = [*asked.columns, "duplicate_of", "warnings"]
    pd.testing.assert_frame_equal(validated.manifest.drop(columns=added), table)
    assert validated.quarantine.empty
    about = {"failed", "failures", "duplicate_of", *asked.columns}
    assert {*table.columns, *about} == {*validated.quarantine.columns}
    assert caplog.messages == ["12 clips pass, 0 quarantined"]


def test_of_near_duplicates_the_first_good_one_is_kept(tmp_path: Path) -> None:
    alike = "f0" * 23
    rows = [
        clip_row(50, likeness=alike + "f0", caption=""),
        clip_row(51, likeness=alike + "f1"),
        clip_row(52, likeness=alike + "ff"),
        clip_row(53, likeness="0f" * 24),
    ]
    table = pd.DataFrame([*clean(), *rows])
    found = validate_clips(table, config(near_duplicate_bits=3), CLIP, tmp_path)
    duplicate = found.quarantine.set_index("clip_id").loc["id52"]
    assert duplicate["duplicate_of"] == "sub folder/clip é51.mp4"
    assert duplicate["reason"] == "looks nearly the same as sub folder/clip é51.mp4"
    assert duplicate["failures"][0]["observed"] == "sub folder/clip é51.mp4"
    assert [*found.quarantine["clip_id"]] == ["id50", "id52"]
    assert {"id51", "id53"} < {*found.manifest["clip_id"]}
    assert set(found.manifest["duplicate_of"]) == {""}
    assert len(validate_clips(table, config(), CLIP, tmp_path).quarantine) == 1


def stopped(table: pd.DataFrame, work: Path, **changes: Any) -> str:
    with pytest.raises(MobiusError) as caught:
        validate_clips(table, config(**changes), CLIP, work)
    assert (work / "data_docs/index.html").is_file()
    assert str(work / "data_docs/index.html") in str(caught.value)
    return str(caught.value)


def test_missing_columns_and_wrong_types_stop(tmp_path: Path) -> None:
    table = pd.DataFrame(clean()).drop(columns=["fps"]).assign(caption=1.5, width="64")
    message = stopped(table, tmp_path)
    assert "expect_column_to_exist fps: there is no such column" in message
    assert "expect_column_values_to_be_of_type caption: the type is wrong: float64" in message
    assert "expect_column_values_to_be_in_type_list width: the type is wrong: str" in message
    assert message.count("expect_") == 3


def test_shares_and_count_stop_after_the_quarantine_is_written(tmp_path: Path) -> None:
    rows = [*clean(4), *(clip_row(50 + number, caption="") for number in range(4)), rejected_row(0)]
    message = stopped(pd.DataFrame(rows), tmp_path, max_rejected_share=0.1, max_quarantined_share=0.4)
    assert (
        "expect_column_values_to_be_in_set status: 11.1 % of the rows are rejected, at most 10 %" in message
    )
    assert "expect_column_values_to_be_in_set kept: 50 % of the readable clips are quarantined" in message
    assert "expect_table_row_count_to_be_between: 4 clips are left, at least 8 are needed" in message
    assert "parameters_validate.yml" in message
    assert len(pd.read_parquet(tmp_path / "quarantine.parquet")) == 5


def test_shares_may_be_met_exactly(tmp_path: Path) -> None:
    rows = [*clean(9), clip_row(9, caption=""), *(rejected_row(number) for number in range(10))]
    table = pd.DataFrame(rows).convert_dtypes()  # nullable integers, as some readers give
    shares = {"max_rejected_share": 0.5, "max_quarantined_share": 0.1}
    assert len(validate_clips(table, config(**shares), CLIP, tmp_path).manifest) == 9


def test_empty_split_stops(tmp_path: Path) -> None:
    """A single source cannot be on both sides."""
    message = stopped(pd.DataFrame(clean()).assign(split="train", source_sha256="one film"), tmp_path)
    assert "expect_column_distinct_values_to_contain_set split: no clip is left in heldout" in message
    assert message.count("expect_") == 1


@pytest.mark.parametrize("rows", [[], [rejected_row(0), rejected_row(1)]], ids=["no rows", "all rejected"])
def test_nothing_left_stops(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    message = stopped(pd.DataFrame(rows, columns=list(clip_row(0))), tmp_path)
    assert "expect_table_row_count_to_be_between: 0 clips are left" in message
    assert ("100 % of the rows are rejected" in message) == bool(rows)


def test_range_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="min 2 is above max 1"):
        Range(min=2, max=1)


def test_import_loads_no_great_expectations() -> None:
    code = "import sys, mobius_pipeline.pipelines.validate; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_configuration_is_read_without_great_expectations() -> None:
    """Every command reads it, and the import takes seconds."""
    code = """
        import sys, yaml
        from mobius_pipeline.validation.config import ValidateConfig
        ValidateConfig(**yaml.safe_load(open("conf/base/parameters_validate.yml"))["validate"])
        sys.exit("great_expectations" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 0


def test_names_and_options_are_those_of_great_expectations() -> None:
    import great_expectations.expectations as gxe
    from great_expectations.expectations import expectation as bases

    classes = (kind for kind in vars(gxe).values() if isinstance(kind, type))
    own = {kind.expectation_type: kind for kind in classes if issubclass(kind, bases.Expectation)}
    own.pop("")  # the base of them all
    assert kinds().keys() == own.keys()
    for name, kind in own.items():
        assert kinds()[name].options in (None, set(kind.__fields__)), name
        assert (kinds()[name].judges == "Column Map") == issubclass(kind, bases.ColumnMapExpectation), name


BETWEEN = "expect_column_values_to_be_between"


def asking(tmp_path: Path, *entries: dict[str, Any], **changes: Any) -> Validated:
    table = pd.DataFrame([*clean(), clip_row(50, **changes)])
    return validate_clips(table, config(expectations=entries), CLIP, tmp_path)


def test_an_entry_of_the_user_quarantines_with_observed_and_required(tmp_path: Path) -> None:
    entry = {"expect": BETWEEN, "column": "motion", "min_value": 1.5, "label": "too little motion"}
    found = asking(tmp_path, entry, motion=0.25, caption="")
    (row,) = found.quarantine.to_dict("records")
    assert row["reason"] == "no caption; too little motion: motion 0.25, required at least 1.5"
    assert row["failures"] == [
        {
            "expectation": "expect_column_values_to_match_regex",
            "column": "caption",
            "label": "no caption",
            "observed": "",
            "required": "a caption",
        },
        {
            "expectation": BETWEEN,
            "column": "motion",
            "label": "too little motion",
            "observed": "0.25",
            "required": "at least 1.5",
        },
    ]
    assert not row["keeps_motion_between"]
    assert found.manifest["keeps_motion_between"].all()
    assert len(found.manifest) == 12


def test_the_quarantine_survives_parquet(mixed: tuple[Validated, Path], tmp_path: Path) -> None:
    mixed[0].quarantine.to_parquet(tmp_path / "quarantine.parquet")
    back = pd.read_parquet(tmp_path / "quarantine.parquet")
    assert [len(failures) for failures in back["failures"]] == [
        len(failures) for failures in mixed[0].quarantine["failures"]
    ]
    assert back["failures"].iloc[-1][0]["observed"] == "not a video"


def test_a_duplicate_is_reported_by_the_path_that_it_repeats(mixed: tuple[Validated, Path]) -> None:
    reported = [failure for row in mixed[0].quarantine["failures"] for failure in row]
    assert [one["observed"] for one in reported if one["label"] == "duplicate"] == ["sub folder/clip é1.mp4"]


def test_a_warning_keeps_the_clip_and_counts_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = {"expect": BETWEEN, "column": "flicker", "max_value": 20, "label": "flickers", "action": "warn"}
    found = asking(tmp_path, entry, flicker=70.0)
    assert len(found.manifest) == 13
    assert list(found.manifest["keeps_flicker_between"]) == [True] * 12 + [False]
    reported = {
        "expectation": BETWEEN,
        "column": "flicker",
        "label": "flickers",
        "observed": "70",
        "required": "at most 20",
    }
    assert list(found.manifest["warnings"]) == [[]] * 12 + [[reported]]
    assert "Kept with a warning: 1 clips (flickers)" in caplog.text


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (
            {"expect": "expect_column_values_between", "column": "motion"},
            "not an expectation that is allowed here. Did you",
        ),
        ({"expect": BETWEEN, "column": "motoin", "min_value": 1}, "no such column. Did you mean motion"),
        (
            {"expect": BETWEEN, "column": "motion", "min_valu": 1},
            r"has no option 'min_valu'\. Did you mean min_value",
        ),
        (
            {"expect": BETWEEN, "column": "motion", "min_value": "lots"},
            r"wrong options: min_value is 'lots', value is not a valid float\.",
        ),
        ({"expect": BETWEEN, "column": "motion"}, "min_value and max_value cannot both be None"),
        (
            {"expect": "expect_column_values_to_be_increasing", "column": "motion", "strikt": True},
            "wrong options: strikt is True, extra fields not permitted",
        ),
    ],
)
def test_an_entry_that_cannot_be_asked_is_refused(entry: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        asking(tmp_path, {**entry, "label": "bad"})


def test_a_slip_of_the_pen_is_reported_before_there_is_a_table() -> None:
    with pytest.raises(ValidationError, match="Did you mean expect_column_values_to_be_between"):
        config(expectations=[{"expect": "expect_column_values_between", "column": "motion", "label": "bad"}])


def test_an_entry_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    entry = {"expect": BETWEEN, "column": "motion", "min_value": 1, "label": "slow"}
    with pytest.raises(ValidationError, match="twice"):
        asking(tmp_path, entry, {**entry, "min_value": 2})


def test_an_entry_may_stop_the_run(tmp_path: Path) -> None:
    entry = {"expect": BETWEEN, "column": "motion", "min_value": 1, "label": "slow", "action": "stop"}
    assert len(asking(tmp_path / "fine", entry).manifest) == 13
    with pytest.raises(
        MobiusError,
        match=r"1 clips: slow, required at least 1 \(`action: stop`\). Repair or remove",
    ):
        asking(tmp_path, entry, motion=0.5)


def test_a_large_share_is_reported_before_it_stops_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.DataFrame([*clean(), clip_row(50, caption=""), rejected_row(1)])
    shares = {"warn_rejected_share": 0.05, "warn_quarantined_share": 0.2}
    validate_clips(table, config(**shares), CLIP, tmp_path)
    assert "7.14 % of the rows are rejected, more than 5 %." in caplog.text
    assert "quarantined, more than" not in caplog.text


@pytest.mark.parametrize(
    "entry",
    [
        {"expect": BETWEEN, "column": "model_frames", "max_value": 100, "action": "warn"},
        {"expect": BETWEEN, "column": "width", "min_value": 8},
        {"expect": "expect_column_values_to_match_regex", "column": "caption", "regex": ".*"},
    ],
)
def test_an_entry_cannot_stand_in_for_a_rule_of_the_code(entry: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="checked on every table already"):
        asking(tmp_path, {**entry, "label": "mine"}, model_frames=3)


def test_an_entry_takes_no_share(tmp_path: Path) -> None:
    entry = {"expect": BETWEEN, "column": "motion", "min_value": 1, "mostly": 0.5, "label": "slow"}
    with pytest.raises(ValidationError, match="takes no `mostly`"):
        asking(tmp_path, entry)


def test_a_clip_without_a_value_does_not_keep_an_entry(tmp_path: Path) -> None:
    entry = {"expect": BETWEEN, "column": "motion", "min_value": 1, "label": "slow"}
    (row,) = asking(tmp_path, entry, motion=None).quarantine.to_dict("records")
    assert row["reason"] == "slow: motion nothing, required at least 1"
    assert not row["keeps_motion_between"]
    absent = {"expect": "expect_column_values_to_be_null", "column": "note", "label": "has a note"}
    table = pd.DataFrame([*clean(), clip_row(50, note="look here")])
    (row,) = validate_clips(table, config(expectations=[absent]), CLIP, tmp_path).quarantine.to_dict(
        "records"
    )
    assert row["reason"] == "has a note: note 'look here', required to be null"


@pytest.mark.parametrize(
    "entry",
    [
        {"expect": "expect_column_values_to_match_regex", "column": "path", "regex": "("},
        {"expect": BETWEEN, "column": "path", "min_value": 1},
    ],
)
def test_an_entry_that_cannot_be_checked_is_named(entry: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match=f"'{entry['expect']} path' cannot be checked on the clips"):
        asking(tmp_path, {**entry, "label": "bad"})


def test_limits_left_open_are_those_of_the_model(tmp_path: Path) -> None:
    assert config().width.min is None
    model = ClipFormat(frames=8, height=40, width=50, fps=12)
    open_ended = {"min": None, "max": None}
    bad = {"width": 49, "height": 39, "fps": 11.0, "duration_s": 0.6}
    rows = [*clean(), *(clip_row(50 + number, **{name: bad[name]}) for number, name in enumerate(bad))]
    found = validate_clips(pd.DataFrame(rows), config(**dict.fromkeys(bad, open_ended)), model, tmp_path)
    assert list(found.quarantine["reason"]) == [
        "width 49 px, required at least 50 px",
        "height 39 px, required at least 40 px",
        "fps 11 frames a second, required at least 12 frames a second",
        "duration_s 0.6 s, required at least 0.666667 s",
    ]


DISTINCT = {
    "expect": "expect_column_unique_value_count_to_be_between",
    "column": "caption",
    "label": "captions",
}


def test_an_entry_on_the_table_stops_the_run_or_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = {**DISTINCT, "min_value": 2}
    message = stopped(pd.DataFrame(clean()), tmp_path, table_expectations=[asked])
    assert "captions: 1, required unique value count at least 2" in message
    warned = config(table_expectations=[{**asked, "action": "warn"}])
    assert len(validate_clips(pd.DataFrame(clean()), warned, CLIP, tmp_path).manifest) == 12
    assert "captions: 1, required unique value count at least 2" in caplog.text


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({**DISTINCT, "expect": BETWEEN}, "not an expectation that is allowed here"),
        ({**DISTINCT, "column": "captoin"}, "no such column. Did you mean caption"),
        (
            {"expect": "expect_table_row_count_to_be_between", "min_value": 3, "label": "few"},
            "checked on every",
        ),
    ],
)
def test_an_entry_on_the_table_that_cannot_be_asked_is_refused(
    entry: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        validate_clips(pd.DataFrame(clean()), config(table_expectations=[entry]), CLIP, tmp_path)


def test_data_docs_show_the_last_runs(tmp_path: Path) -> None:
    table = pd.DataFrame(clean())
    for count in (12, 11, 10):
        found = validate_clips(table.head(count), config(history=2), CLIP, tmp_path)
    pages = [page.read_text() for page in found.data_docs.glob("validations/5 manifest/**/*.html")]
    assert len(pages) == 2
    assert [any(f">{count}<" in page for page in pages) for count in (12, 11, 10)] == [False, True, True]
    index = (found.data_docs / "index.html").read_text()
    runs = {run.name for run in (tmp_path / "expectations_history/5 manifest").iterdir()}
    assert len(runs) == 2
    assert all(f"<td>{run}</td>" in index for run in runs)
    links = [unquote(link) for link in re.findall(r'<a href="([^"]+[.]html)">', index)]
    assert len(links) == 2 * 5 + 5  # suites a run, and what each asks
    assert all((found.data_docs / link).is_file() for link in links)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("expect_column_value_lengths_to_be_between", {"max_value": 9}, "value lengths at most 9"),
        ("expect_column_values_to_not_be_in_set", {"value_set": ["a"]}, "to not be in set, value_set ['a']"),
        ("expect_column_values_to_be_in_set", {"value_set": ["a", "b"]}, "'a' or 'b'"),
    ],
)
def test_requirements_read_as_words(kind: str, options: dict[str, Any], words: str) -> None:
    assert in_words(Expectation(kind, "caption", options)) == words


def test_columns_of_decisions_are_short() -> None:
    lengths = Expectation("expect_column_value_lengths_to_be_between", "caption")
    assert decision(lengths) == "keeps_caption_value_lengths_between"
    assert (
        decision(Expectation("expect_column_values_to_not_match_regex", "path"))
        == "keeps_path_not_match_regex"
    )
