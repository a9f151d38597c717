"""Summarise the clips that were left out of the data: one line per failed check."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from mobius_pipeline.comparison.model import Data, LeftOut
from mobius_pipeline.ingest.split import HELDOUT, TRAIN

_EXAMPLES, _LENGTH = 3, 70  # observed texts per line, and characters of each


def data_summary(manifest: pd.DataFrame, quarantine: pd.DataFrame, digest: str) -> Data:
    """Return the numbers of clips, and what was left out.

    Args:
        manifest: The clips, with the columns `split` and `warnings` (see `left_out`).
        quarantine: The clips that were left out.
        digest: Digest of the data that the first column was trained on.
    """
    splits = Counter(manifest["split"])
    return Data(
        clips=len(manifest),
        train=splits[TRAIN],
        heldout=splits[HELDOUT],
        quarantined=len(quarantine),
        left_out=left_out(quarantine, manifest),
        digest=digest,
    )


def left_out(quarantine: pd.DataFrame, manifest: pd.DataFrame) -> list[LeftOut]:
    """Return one line per failed check, sorted by number of clips; a clip counts in each check it failed.

    Args:
        quarantine: Clips with `failures`: a list of `label`, `column`, `observed` and `required` per row.
        manifest: Clips with `warnings`, in the same form: checks that they failed although they were kept.
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
    """Return the range of the values if they are numbers, otherwise some of them."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all():
        least, most = numbers.min(), numbers.max()
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"
    texts = list(dict.fromkeys(value for value in values if value))
    shown = [text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…" for text in texts[:_EXAMPLES]]
    return "; ".join(shown) + ("; …" if len(texts) > _EXAMPLES else "")
