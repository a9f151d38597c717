"""Hold out at least two sources: a share by hash gives fewer in a small folder."""

import logging
from collections.abc import Collection

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mobius_pipeline.ingest.split import place_of
from mobius_pipeline.runtime.remote_files import Readable

log = logging.getLogger(__name__)

FEWEST = 2  # held-out sources


def trained_on(manifest: Readable) -> set[str]:
    """The sources, by the hash of their bytes, and the groups that an earlier manifest assigns to training.

    A missing or unreadable manifest gives none: it is about to be replaced.
    """
    if not manifest.exists():
        return set()
    try:
        with manifest.open("rb") as file:
            rows = pq.read_table(file, columns=["source_sha256", "group", "split"]).to_pandas()
        rows = rows[rows["split"] == "train"]
        return {*rows["source_sha256"], *rows.get("group", ())} - {""}
    except (pa.ArrowException, OSError, KeyError) as error:
        log.warning("%s cannot be read (%s): it does not say what was trained on.", manifest, error)
        return set()


def hold_out(manifest: pd.DataFrame, trained: Collection[str]) -> pd.DataFrame:
    """Hold out further sources, in the order of their hashes, until there are `FEWEST`; one is left to train.

    The order does not depend on what else is there. So clips that are added move none from training to the
    held-out ones; where clips are removed, `trained` keeps those that were trained on where they are.

    Args:
        manifest: Clips with `source_sha256`, `path`, `split` and, where there are groups, `group`.
        trained: Sources and groups that are never held out.

    Returns:
        The manifest with its column `split` brought up to date.
    """
    names = _names(manifest)
    held = set(names[manifest["split"] == "heldout"])
    if manifest.empty or len(held) >= FEWEST:
        return manifest
    others = sorted(set(names) - held, key=place_of)
    known = set(names[manifest["source_sha256"].isin(trained) | names.isin(trained)])
    free = [name for name in others if name not in known]
    taken = free[: max(0, min(FEWEST - len(held), len(others) - 1))]
    _log_summary(taken, len(held), manifest.groupby(names)["path"].first(), bool(known))
    return manifest.assign(split=manifest["split"].mask(names.isin(taken), "heldout"))


def _names(manifest: pd.DataFrame) -> "pd.Series[str]":
    """The name that each clip is split by: its group, or its source if it has none."""
    sources = manifest["source_sha256"]
    if "group" not in manifest:
        return sources
    return manifest["group"].fillna("").where(lambda group: group != "", sources)


def _log_summary(taken: list[str], held: int, paths: "pd.Series[str]", any_trained: bool) -> None:
    if taken:
        log.warning(
            "The share of held-out clips gives %d of %d sources. %s held out, too, by the order of the "
            "hashes: at least %d are needed to measure by.",
            held,
            len(paths),
            " and ".join(paths[taken]) + (" is" if len(taken) == 1 else " are"),
            FEWEST,
        )
    if held + len(taken) < FEWEST:
        log.warning(
            "Only %d of %d sources held out, which says little about others. Add clips of more sources.%s",
            held + len(taken),
            len(paths),
            " What the manifest before this one trained on is never held out; if nothing was trained yet, "
            "delete that manifest and run `kedro run --pipelines=validate` again."
            if any_trained
            else "",
        )
