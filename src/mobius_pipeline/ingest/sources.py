"""Find the sources below a folder of raw clips: media files, folders of numbered pictures, tar shards."""

import logging
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mobius_pipeline.ingest.file_names import NameGuess, plain, spelled
from mobius_pipeline.ingest.listing import find_table, read_table
from mobius_pipeline.ingest.listing_index import ListingIndex, ListingRow
from mobius_pipeline.ingest.schema import rejected
from mobius_pipeline.ingest.sequences import find_sequences
from mobius_pipeline.ingest.shards import read_shard
from mobius_pipeline.ingest.walk import Tree, walk
from mobius_pipeline.runtime.addresses import PAGE, address
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.progress import track

log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp", ".apng", ".png"}
SHARD = ".tar"
LISTING = "listing"
# Captions and provenance (such as DVC's of imported folders): not clips, and not worth a warning.
_BESIDE = {".txt", ".caption", ".csv", ".json", ".jsonl", ".parquet", ".dvc"}


@dataclass
class Sources:
    """The sources of clips below a folder, as relative POSIX paths; a tar shard counts as a folder.

    Attributes:
        tree: All files below the folder.
        paths: The sources to read, sorted.
        refused: The sources that are not opened, and why.
        listed: Rows of the listing by normalised name; None without a listing.
        members: Captions of the members of tar shards, by path.
    """

    tree: Tree
    paths: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    listed: ListingIndex | None = None
    members: ListingIndex = field(default_factory=ListingIndex)

    def rejected(self) -> list[dict[str, Any]]:
        """Return the refused sources as rows of the clip table."""
        return [rejected(path, reason) for path, reason in self.refused.items()]

    def listed_sha256(self, path: str) -> list[str]:
        """Return the SHA-256 that the listing gives for a source: none, one, or several that disagree."""
        return self.listed.hashes(plain(path)) if self.listed else []


def find_media(folder: Path, allowed: Container[str] = ()) -> Sources:
    """Find all sources below `folder`, or only those that its listing names; log what is skipped.

    Links may lead out of the folder into `allowed`.

    Raises:
        MobiusError: If there are no sources, or the listing is damaged.
    """
    tree = walk(folder, allowed)
    listing = find_table(folder, tree, LISTING)
    found = Sources(tree)
    _add_files(found, folder)
    _add_shards(found, folder)
    found.paths.sort()
    if listing:
        _keep_listed(found, listing)
    if not folder.is_dir() or not (found.paths or found.refused):
        raise MobiusError(
            f"There are no clips in {folder}. Put {', '.join(sorted(SUFFIXES))} files there, tar shards of "
            "them or folders of numbered pictures, or set another folder with `clips` in "
            "conf/base/globals.yml."
        )
    return found


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_clip(tree: Tree, name: str) -> bool:
    return name in tree.folders or _suffix(name) in SUFFIXES | {SHARD}


def _add_files(found: Sources, folder: Path) -> None:
    tree = found.tree
    sequences, frames = find_sequences(folder, tree, SUFFIXES)
    media = [name for name in tree.files if _suffix(name) in SUFFIXES and name not in frames]
    found.paths += media + [name for name, reason in sequences.items() if not reason]
    found.refused |= {name: tree.refused[name] for name in tree.refused if _is_clip(tree, name)}
    found.refused |= {name: reason for name, reason in sequences.items() if reason}
    for name in frames:
        found.refused.pop(name, None)  # its folder is the source
    passed = frames.union(media)
    _log_others(tree, [name for name in tree.files if name not in passed])


def _add_shards(found: Sources, folder: Path) -> None:
    names = [name for name in found.tree.files if _suffix(name) == SHARD]
    unusable = []
    for name in track(names, "tar shards", len(names), "shards") if names else ():
        shard = read_shard(folder / name, SUFFIXES)
        found.paths += [f"{name}/{clip}" for clip in shard.clips]
        found.members.add(ListingRow(f"{name}/{clip}", captions) for clip, captions in shard.clips.items())
        found.refused |= {f"{name}/{member}": reason for member, reason in shard.refused.items()}
        if shard.damage:
            found.refused[name] = shard.damage
        unusable += [f"{name}/{member}" for member in shard.unusable]
    if unusable:
        log.warning(
            "%d text members of tar shards cannot be used (not UTF-8 text, damaged JSON or too long), "
            "such as %s.",
            len(unusable),
            unusable[0],
        )


def _keep_listed(found: Sources, listing: Path) -> None:
    sources = {plain(name) for name in (*found.paths, *found.refused)}
    rows = read_table(listing, captioned=False)
    index = ListingIndex(row._replace(file=spelled(row.file, sources)) for row in rows)
    kept = [path for path in found.paths if index.claim(plain(path))]
    missing = set(index.unclaimed())
    unnamed = len(found.paths) + len(found.refused) - len(kept) - len(found.refused.keys() & missing)
    log.log(
        logging.WARNING if unnamed else logging.INFO,
        "%s names %d sources; %d others in the folder are left out.",
        listing.name,
        index.count(),
        unnamed,
    )
    reasons = found.tree.refused | found.refused
    there = {plain(name) for name in found.tree.files} if missing else set()
    guess = NameGuess(found.paths if missing else ())
    found.refused = {name: _why_missing(name, reasons, there) + guess.question(name) for name in missing}
    found.paths, found.listed = kept, index


def _why_missing(name: str, refused: dict[str, str], there: set[str]) -> str:
    path = PurePosixPath(name)
    if address(name):
        return f"an address; nothing is downloaded. Bring its folder here first ({PAGE})."
    if path.is_absolute() or ".." in path.parts:
        return (
            "an absolute path or one with `..`, which is not opened. Give it relative to the folder of clips."
        )
    if above := next((part for part in [name, *map(str, path.parents)] if part in refused), None):
        return refused[above] if above == name else f"{above}: {refused[above]}"
    if name in there:
        return "is listed, but is not a clip: neither a media file by its suffix nor a folder of pictures"
    return "is listed, but does not exist."


def _log_others(tree: Tree, names: list[str]) -> None:
    """Log how many files are neither clips nor belong to a clip."""
    suffixes = Counter(_suffix(name) or "(none)" for name in names)
    if other := {suffix: n for suffix, n in suffixes.items() if suffix not in _BESIDE | {SHARD}}:
        log.warning("Skipped files that are not media by their suffix: %s.", other)
    if closed := [name for name in tree.refused if not _is_clip(tree, name)]:
        log.warning(
            "%d files that are not clips are not opened, such as %s: %s",
            len(closed),
            closed[0],
            tree.refused[closed[0]],
        )
    if tree.hidden:
        log.info("Skipped %d hidden files and folders.", tree.hidden)
