"""Test the summary of the clips left out: number, observed and required values by check."""

import pandas as pd

from mobius_pipeline.comparison.quarantine_summary import left_out


def failure(label: str, observed: str, required: str) -> dict[str, str]:
    return {"expectation": "", "column": "", "label": label, "observed": observed, "required": required}


def test_each_thing_that_clips_failed_is_a_line() -> None:
    slow = [failure("too little motion", value, "at least 1.5") for value in ("0.25", "1.0", "0")]
    silent = failure("no caption", "", "a caption")
    broken = [failure("rejected", f"{name}.mp4: cut off", "a readable file") for name in "abcd"]
    quarantine = pd.DataFrame(
        {"failures": [[slow[0]], [slow[1], silent], [slow[2]], *([one] for one in broken)]}
    )
    manifest = pd.DataFrame(
        {
            "warnings": [
                [],
                [failure("flickers", "70", "at most 60")],
                [failure("flickers", "61", "at most 60")],
            ]
        }
    )
    assert [line.model_dump() for line in left_out(quarantine, manifest)] == [
        {"label": "rejected", "required": "a readable file", "clips": 4, "kept": False,
         "observed": "a.mp4: cut off; b.mp4: cut off; c.mp4: cut off; …"},
        {"label": "too little motion", "required": "at least 1.5", "clips": 3, "kept": False,
         "observed": "0 to 1"},
        {"label": "no caption", "required": "a caption", "clips": 1, "kept": False, "observed": ""},
        {"label": "flickers", "required": "at most 60", "clips": 2, "kept": True, "observed": "61 to 70"},
    ]  # fmt: skip


def test_nothing_left_out_gives_no_line() -> None:
    assert left_out(pd.DataFrame({"failures": []}), pd.DataFrame({"warnings": [[]]})) == []
