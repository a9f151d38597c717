"""Download animated emoji from a pinned npm package, verify and caption them."""

import base64
import csv
import hashlib
import io
import json
import logging
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image
from pydantic import Field

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder, write_json
from mobius_pipeline.runtime.progress import stage, track
from mobius_pipeline.runtime.scratch import scratch
from mobius_pipeline.sources.emoji_names import caption, code_points, group

log = logging.getLogger(__name__)

PROVENANCE_FILE = "provenance.json"
# Far above any emoji (the largest of Fluent's has 0.9 MB): a larger file is refused without being read.
_MAX_BYTES = 32 * 2**20


class PackageConfig(Config):
    """A pinned npm package.

    Attributes:
        name: Name, for instance `@lobehub/fluent-emoji-anim-1`.
        version: Exact version, not a range.
        integrity: Hash of the package as npm publishes it (`dist.integrity`).
    """

    name: str = Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")
    integrity: str = Field(pattern=r"^sha512-[A-Za-z0-9+/]{86}==$")


class FetchConfig(Config):
    """Settings of `fetch`, in `conf/<env>/parameters_fetch.yml`.

    Attributes:
        package: The package to download; null if the environment has no public data.
        limit: Number of animated emoji to keep, from the first; null keeps all.
    """

    package: PackageConfig | None
    limit: int | None = Field(gt=0)


@dataclass
class Unpacked:
    """The result of unpacking an archive.

    Attributes:
        kept: Names of the animated WebP files that were written.
        static: Number of WebP files without animation.
        beyond_limit: Number of animated files beyond the limit.
        refused: Members that were refused, and why.
    """

    kept: list[str] = field(default_factory=list)
    static: int = 0
    beyond_limit: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def fetch(config: FetchConfig, target: Path) -> Path:
    """Fill the folder `target` with animated WebP files, `captions.csv` and `provenance.json`.

    Raises:
        MobiusError: If no package is named, npm is missing or fails, the download is not the pinned one, or
            it holds no animated emoji.
    """
    if config.package is None:
        raise MobiusError(
            "This environment names no package to fetch. Run `kedro run --env=emoji --pipelines=fetch`, or "
            "set `fetch.package` in parameters_fetch.yml of your own environment."
        )
    with scratch(target.with_name("npm")) as downloaded, atomic_folder(target) as folder:
        downloaded.mkdir()
        archive = download(config.package, downloaded)
        verify(archive, config.package)
        result = unpack(archive, folder, config.limit)
        _report(result, config.package)
        _write_captions(folder / "captions.csv", result.kept)
        write_json(folder / PROVENANCE_FILE, _provenance(config.package, _licence(archive), result))
    return target


def download(package: PackageConfig, folder: Path) -> Path:
    """Download a package's archive into the empty `folder` with the user's own npm client and settings.

    Raises:
        MobiusError: If npm is missing, or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise MobiusError(
            "npm is not installed, and `fetch` downloads with it. Install Node.js from your system's package "
            "manager (for instance `apt install npm` or `brew install node`) and run this again."
        )
    spec = f"{package.name}@{package.version}"
    # Not --silent: that would also hide the reason of a failure.
    options = ["--loglevel=error", "--ignore-scripts", "--no-update-notifier"]
    with stage(f"downloading {spec}", 1, "packages") as bar:
        done = subprocess.run([npm, "pack", spec, *options], cwd=folder, capture_output=True, text=True)
        archives = list(folder.glob("*.tgz"))
        if done.returncode != 0 or len(archives) != 1:
            raise MobiusError(_npm_failed(spec, done))
        bar.advance()
    return archives[0]


def _npm_failed(spec: str, done: subprocess.CompletedProcess[str]) -> str:
    output = done.stderr.strip() or done.stdout.strip() or "nothing"
    return (
        f"npm could not download {spec} (exit code {done.returncode}). Its output:\n{output}\n"
        "Check your network and `npm config get registry`, and `fetch.package` in parameters_fetch.yml, "
        "then run this again."
    )


def verify(archive: Path, package: PackageConfig) -> None:
    """Compare an archive's subresource-integrity hash with the pinned one.

    Raises:
        MobiusError: If they differ.
    """
    with archive.open("rb") as file:
        found = f"sha512-{base64.b64encode(hashlib.file_digest(file, 'sha512').digest()).decode()}"
    if found != package.integrity:
        raise MobiusError(
            f"The download of {package.name}@{package.version} is not the pinned one; it was not unpacked."
            f"\nexpected {package.integrity}\nfound    {found}\n"
            "Run `npm cache clean --force` and try again. If the error persists, your registry serves "
            "another file. If you changed the version, set its hash in `fetch.package.integrity`: "
            f"`npm view {package.name}@{package.version} dist.integrity` prints it."
        )


def unpack(archive: Path, folder: Path, limit: int | None) -> Unpacked:
    """Write the animated WebP files of an archive directly into `folder`; count what is left out."""
    result = Unpacked()
    with tarfile.open(archive, "r:gz") as tar:
        members = [member for member in tar.getmembers() if not member.isdir()]
        for member in track(members, "unpacking emoji", len(members), "files"):
            reason = _refusal(member, result.kept)
            if reason is not None:
                result.refused[member.name] = reason
            elif member.name.endswith(".webp"):
                _keep_animated(tar, member, folder, limit, result)
    return result


def _refusal(member: tarfile.TarInfo, kept: Sequence[str]) -> str | None:
    """Return why a member must not be unpacked; None if it may."""
    path = PurePosixPath(member.name)
    if not member.isreg():
        return "a link or a device, not a regular file"
    if path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[\w@. /+-]+", member.name, re.ASCII):
        return "its name is not a plain relative path"
    if path.suffix != ".webp":
        return None
    if member.size > _MAX_BYTES:
        return f"{member.size:,} bytes are too large for an emoji"
    if code_points(path.stem) is None:
        return "its name does not give Unicode code points"
    return f"a second file named {path.name}" if path.name in kept else None


def _keep_animated(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, limit: int | None, result: Unpacked
) -> None:
    source = tar.extractfile(member)
    assert source is not None, "only regular files are passed"
    content, name = source.read(), PurePosixPath(member.name).name
    try:
        frames = _frames(content)
    except (OSError, Image.DecompressionBombError) as error:
        result.refused[member.name] = f"not a readable WebP file ({error})"
        return
    if frames < 2:
        result.static += 1
    elif limit is not None and len(result.kept) >= limit:
        result.beyond_limit += 1
    else:
        (folder / name).write_bytes(content)
        result.kept.append(name)


def _frames(content: bytes) -> int:
    with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
        return int(getattr(image, "n_frames", 1))


def _report(result: Unpacked, package: PackageConfig) -> None:
    for name, reason in result.refused.items():
        log.warning("refused %r: %s", name, reason)
    log.info(
        "%d animated emoji kept; left out: %d static, %d beyond the limit, %d refused",
        *(len(result.kept), result.static, result.beyond_limit, len(result.refused)),
    )
    if not result.kept:
        raise MobiusError(
            f"{package.name}@{package.version} holds no animated emoji ({result.static} static, "
            f"{len(result.refused)} refused). Set another package with `fetch.package` in "
            "parameters_fetch.yml."
        )


def _licence(archive: Path) -> str:
    """Return the licence in the package's package.json (npm archives hold all files in `package/`)."""
    with tarfile.open(archive, "r:gz") as tar:
        try:
            file = tar.extractfile("package/package.json")
        except KeyError:
            file = None
        return str(json.load(file).get("license", "not stated")) if file else "not stated"


def _provenance(package: PackageConfig, licence: str, result: Unpacked) -> dict[str, object]:
    return {
        "package": package.name,
        "version": package.version,
        "integrity": package.integrity,
        "licence": licence,
        "kept": len(result.kept),
        "static": result.static,
        "beyond_limit": result.beyond_limit,
        "refused": len(result.refused),
    }


def _write_captions(path: Path, names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "caption", "group"])
        writer.writerows([name, caption(Path(name).stem), group(Path(name).stem)] for name in names)
