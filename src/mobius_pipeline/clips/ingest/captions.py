"""Captions of clips: one table for a folder, or a text file beside each clip."""

import csv
import io
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mobius_pipeline.errors import MobiusError

log = logging.getLogger(__name__)

TABLE = "captions.csv"


def read_captions(folder: Path, clips: Iterable[str]) -> dict[str, str]:
    """Find the captions of `clips` (paths relative to `folder`, POSIX).

    A row of `captions.csv` (columns `file` and `caption`) comes first, then a `<name>.txt` beside the clip.
    A text file that is not UTF-8 leaves its clip without a caption, said aloud.

    Returns:
        The captions that were found, without surrounding white space.

    Raises:
        MobiusError: If `captions.csv` lacks a column or is no UTF-8 text.
    """
    names = {_plain(clip): clip for clip in clips}
    table = _read_table(folder / TABLE)
    if strays := sorted(table.keys() - names.keys()):
        log.warning(
            "%s captions %d files that are not there, %s for instance.", TABLE, len(strays), strays[0]
        )
    found = {}
    for name, clip in names.items():
        caption = table[name] if name in table else _read_sidecar((folder / clip).with_suffix(".txt"))
        if caption is not None:
            found[clip] = caption.strip()
    return found


def _plain(name: str) -> str:
    """One spelling for a path: macOS writes an accented letter as two code points, tables as one."""
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix())


def _read_table(path: Path) -> dict[str, str]:
    """Captions by plain path; of several rows for one file the last counts, said aloud."""
    if not path.is_file():
        return {}
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    except UnicodeDecodeError as error:
        raise MobiusError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    if missing := {"file", "caption"} - set(rows.fieldnames or ()):
        raise MobiusError(
            f"{path} lacks the column {' and '.join(sorted(missing))}: its first line must name them."
        )
    pairs = [(_plain(row["file"]), row["caption"] or "") for row in rows]
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        log.warning(
            "%s names %d files more than once, %s for instance; the last row counts.",
            TABLE,
            len(twice),
            twice[0],
        )
    return dict(pairs)


def _read_sidecar(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        log.warning("%s is not UTF-8 text, so its clip has no caption. Save it as UTF-8.", path)
        return None
