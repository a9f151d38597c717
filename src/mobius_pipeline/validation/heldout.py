"""Hold out at least two sources, because a share by hash may give fewer in a small folder."""

import logging
from collections.abc import Collection

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mobius_pipeline.ingest.split import HELDOUT, TRAIN, split_fraction
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.remote_files import Readable

log = logging.getLogger(__name__)

FEWEST = 2  # minimum number of held-out sources


def trained_on(manifest: Readable) -> set[str]:
    """Return the sources (by SHA-256) and groups that an earlier manifest assigns to training.

    Raises:
        MobiusError: If the manifest exists and cannot be read: training clips might be held out.
    """
    if not manifest.exists():
        return set()
    try:
        with manifest.open("rb") as file:
            table = pq.ParquetFile(file)
            named = [name for name in ("source_sha256", "group", "split") if name in table.schema_arrow.names]
            rows = table.read(columns=named).to_pandas()
        rows = rows[rows["split"] == TRAIN]
        return {*rows["source_sha256"], *rows.get("group", ())} - {""}  # earlier versions had no groups
    except (pa.ArrowException, OSError, KeyError) as error:
        raise MobiusError(
            f"{manifest} cannot be read ({error}), and it names the clips that must not be held out, because "
            "a model was trained on them. Restore it (`dvc checkout`), or remove it to split all clips again."
        ) from error


def hold_out(manifest: pd.DataFrame, trained: Collection[str]) -> pd.DataFrame:
    """Hold out further sources, in the order of their hashes, up to `FEWEST`; at least one is left to train.

    The order does not depend on other sources, so adding clips never moves a source from training to
    held-out. When clips are removed, `trained` keeps the sources that were trained on in training.

    Args:
        manifest: Clips with `source_sha256`, `path`, `split` and optionally `group`.
        trained: Sources and groups that are never held out.

    Returns:
        The manifest with an updated column `split`.
    """
    names = _names(manifest)
    held = set(names[manifest["split"] == HELDOUT])
    if manifest.empty or len(held) >= FEWEST:
        return manifest
    others = sorted(set(names) - held, key=split_fraction)
    known = set(names[manifest["source_sha256"].isin(trained) | names.isin(trained)])
    free = [name for name in others if name not in known]
    taken = free[: max(0, min(FEWEST - len(held), len(others) - 1))]
    _log_summary(taken, len(held), manifest.groupby(names)["path"].first(), bool(known))
    return manifest.assign(split=manifest["split"].mask(names.isin(taken), HELDOUT))


def _names(manifest: pd.DataFrame) -> "pd.Series[str]":
    """Return the name that decides the split of each clip: its group, or its source if it has none."""
    sources = manifest["source_sha256"]
    if "group" not in manifest:
        return sources
    return manifest["group"].fillna("").where(lambda group: group != "", sources)


def _log_summary(taken: list[str], held: int, paths: "pd.Series[str]", any_trained: bool) -> None:
    if taken:
        log.warning(
            "ingest.heldout_share holds out %d of %d sources. %s also held out, chosen by hash: the held-out "
            "loss needs at least %d sources.",
            held,
            len(paths),
            " and ".join(paths[taken]) + (" is" if len(taken) == 1 else " are"),
            FEWEST,
        )
    if held + len(taken) < FEWEST:
        log.warning(
            "Only %d of %d sources are held out, so the held-out loss is unreliable. Add clips of more "
            "sources.%s",
            held + len(taken),
            len(paths),
            " Training clips of the previous manifest are never held out; if nothing was trained yet, "
            "delete that manifest and run `kedro run --pipelines=validate` again."
            if any_trained
            else "",
        )
