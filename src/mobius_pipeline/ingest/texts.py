"""Read captions from small text files."""

import json
import re
from collections.abc import Iterable

from mobius_pipeline.ingest.listing import captions_of

LINES = (".txt", ".caption")  # suffixes of files with one caption per line; the latter is kohya's
SUFFIXES = {*LINES, ".cls", ".json"}
_LINE_ENDS = re.compile(r"\r\n|\n|\r")  # str.splitlines also cuts at characters within sentences
MAX_BYTES = 1 << 20  # a larger file is not a caption, and is not read completely


def captions_in(suffix: str, data: bytes) -> list[str]:
    """Return the captions in the bytes of a file.

    These are the lines of `.txt` and `.caption`, the whole text of `.cls`, `caption` and `captions` of
    `.json`.

    Raises:
        ValueError: If it is not UTF-8 text, too long, or not a JSON object.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    text = data.decode("utf-8-sig")
    if suffix == ".json":
        return _captions_in_json(text)
    return _LINE_ENDS.split(text) if suffix in LINES else [text]


def distinct(captions: Iterable[str]) -> list[str]:
    """Return the captions stripped of white space, without empty and repeated ones, in their order."""
    return list(dict.fromkeys(filter(None, (caption.strip() for caption in captions))))


def _captions_in_json(text: str) -> list[str]:
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return captions_of(record)
