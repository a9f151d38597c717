"""Damaged JSON files."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def write_damaged(file: Path, model: BaseModel, place: tuple[str, ...], value: Any) -> Path:
    """Write a model as JSON with another value at a place; None removes what is there."""
    document = part = model.model_dump(mode="json")
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    if value is None:
        del part[place[-1]]
    file.write_text(json.dumps(document))
    return file
