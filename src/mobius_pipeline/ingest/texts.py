"""Captions in small text files."""

import json
import re
from collections.abc import Iterable

from mobius_pipeline.ingest.listing import captions_of

LINES = (".txt", ".caption")  # endings of texts with a caption a line; the latter is kohya's
SUFFIXES = {*LINES, ".cls", ".json"}
_LINE_ENDS = re.compile(r"\r\n|\n|\r")  # str.splitlines also cuts at characters within sentences
MAX_BYTES = 1 << 20  # more is not a caption, and need not be read to know it


def captions_in(suffix: str, data: bytes) -> list[str]:
    """Captions in a file's bytes.

    A line each of `.txt` and `.caption`, all of `.cls`, `caption` or `captions` of `.json`.

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
    """The captions without surrounding white space, empty and repeated ones left out, in their order."""
    return list(dict.fromkeys(filter(None, (caption.strip() for caption in captions))))


def _captions_in_json(text: str) -> list[str]:
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    return captions_of(record)
