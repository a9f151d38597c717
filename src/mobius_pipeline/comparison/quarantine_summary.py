"""What was left out of the data, and why: one line for each thing that clips failed."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from mobius_pipeline.comparison.model import Data, LeftOut

_EXAMPLES, _LENGTH = 3, 70  # observed texts a line, and letters of each


def data_summary(manifest: pd.DataFrame, quarantine: pd.DataFrame, digest: str) -> Data:
    """How many clips there are, and what was left out.

    Args:
        manifest: The clips, with `split` and what `left_out` takes.
        quarantine: The clips that were left out.
        digest: Of the data that the first column was trained on.
    """
    splits = Counter(manifest["split"])
    return Data(
        clips=len(manifest),
        train=splits["train"],
        heldout=splits["heldout"],
        quarantined=len(quarantine),
        left_out=left_out(quarantine, manifest),
        digest=digest,
    )


def left_out(quarantine: pd.DataFrame, manifest: pd.DataFrame) -> list[LeftOut]:
    """Lines by number of clips; a clip that failed several things is in the line of each.

    Args:
        quarantine: With `failures`, a list a row of `label`, `column`, `observed` and `required`.
        manifest: With `warnings`, likewise: what clips fail that were kept.
    """
    lines = [*_lines(quarantine["failures"], kept=False), *_lines(manifest["warnings"], kept=True)]
    return sorted(lines, key=lambda line: (line.kept, -line.clips, line.label))


def _lines(failures: "pd.Series[Any]", kept: bool) -> Iterator[LeftOut]:
    each = pd.DataFrame([failure for one in failures for failure in one])
    if len(each):
        for (label, _, required), group in each.groupby(["label", "column", "required"]):
            yield LeftOut(
                label=label,
                required=required,
                clips=len(group),
                kept=kept,
                observed=_observed(group["observed"]),
            )


def _observed(values: "pd.Series[str]") -> str:
    """The range of numbers, or some of the texts."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all():
        least, most = numbers.min(), numbers.max()
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"
    texts = list(dict.fromkeys(value for value in values if value))
    shown = [text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…" for text in texts[:_EXAMPLES]]
    return "; ".join(shown) + ("; …" if len(texts) > _EXAMPLES else "")
