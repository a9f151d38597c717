"""Report the shards of a latents store that no clip refers to, and the stores of earlier encoders."""

import logging
from collections.abc import Iterable
from pathlib import Path

from rich.filesize import decimal

from mobius_pipeline.latents.index import read_index
from mobius_pipeline.latents.shards import SUFFIX

log = logging.getLogger(__name__)

NAMED = 20  # shards in a message


def log_orphans(root: Path, folder: Path, remove_orphans: bool) -> None:
    """Log the shards that no clip refers to, and the stores of earlier encoders.

    Args:
        root: The store's root.
        folder: The folder in it that is in use.
        remove_orphans: Whether to delete shards that no clip refers to.
    """
    index = read_index(folder)
    used = {*index["shard"], *index["text_shards"].explode()}
    orphans = [path for path in folder.glob(f"*{SUFFIX}") if path.name not in used]
    found = f"{len(orphans)} shards ({_size(orphans)}) in {folder} that no clip refers to"
    if orphans and remove_orphans:
        for path in orphans:
            path.unlink()
        log.info("Removed: %s: %s.", found, _named(orphans))
    elif orphans:
        log.info(
            "%s are kept, in case their clips and captions return: %s. `kedro run --pipelines=encode "
            "--params=encode.remove_orphans=true` removes them.",
            found,
            _named(orphans),
        )
    for other in sorted(path for path in root.iterdir() if path.is_dir() and path != folder):
        size = _size(path for path in other.rglob("*") if path.is_file())
        log.info("A store of an earlier encoder: %s (%s). Delete it if you do not need it.", other, size)


def _named(shards: list[Path]) -> str:
    names = ", ".join(sorted(path.name for path in shards)[:NAMED])
    return names if len(shards) <= NAMED else f"{names} ..."


def _size(files: Iterable[Path]) -> str:
    return decimal(sum(path.stat().st_size for path in files))
