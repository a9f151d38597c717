"""What was left out of the data, and why: one line for each thing that clips failed."""

from typing import Any

import pandas as pd

_EXAMPLES, _LENGTH = 3, 70  # observed texts a line, and letters of each


def left_out(quarantine: pd.DataFrame, manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines by number of clips.

    Args:
        quarantine: With `failures`, a list a row of `expectation`, `column`, `observed` and `required`.
        manifest: Its columns `keeps_…` say which kept clips fail an entry that only warns.

    Returns:
        `column`, `required`, `clips`, `observed` and `kept`: whether they were kept with a warning. A clip
        that failed several things is in the line of each.
    """
    failures = pd.DataFrame([failure for one in quarantine["failures"] for failure in one])
    lines = []
    if len(failures):
        for (column, required), group in failures.groupby(["column", "required"]):
            about = {"column": column, "required": required, "clips": len(group), "kept": False}
            lines.append({**about, "observed": _observed(group["observed"])})
    for name in manifest.columns[manifest.columns.str.startswith("keeps_")]:
        if count := int((~manifest[name].astype(bool)).sum()):
            column = name.removeprefix("keeps_")
            lines.append({"column": column, "required": "", "clips": count, "kept": True, "observed": ""})
    return sorted(lines, key=lambda line: (line["kept"], -line["clips"], line["column"]))


def _observed(values: "pd.Series[str]") -> str:
    """The range of numbers, or some of the texts."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all():
        least, most = numbers.min(), numbers.max()
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"
    texts = list(dict.fromkeys(value for value in values if value))
    shown = [text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…" for text in texts[:_EXAMPLES]]
    return "; ".join(shown) + ("; …" if len(texts) > _EXAMPLES else "")
