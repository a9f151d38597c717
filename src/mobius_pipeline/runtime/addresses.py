"""Recognise addresses such as `s3://bucket/clips`, and refuse them where a local path is needed."""

import re
import shlex
from os import PathLike
from pathlib import Path, PurePosixPath

from mobius_pipeline.runtime.errors import MobiusError

# Two letters or more: one letter is a drive. `Path` turns `//` into `/`.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(\S.*)")
# https://dvc.org/doc/command-reference/import-url
_DVC_IMPORTS = {
    "azure", "gs", "hdfs", "http", "https", "oss", "remote", "s3", "ssh", "webdav", "webdavs", "webhdfs",
}  # fmt: skip
PAGE = "docs/remote_data.md"


def address(path: str | PathLike[str]) -> str | None:
    """Return the address that `path` is, even if it was made a `Path`; None for a path of this machine."""
    found = _ADDRESS.fullmatch(str(path))
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2].rstrip('/')}" if found else None


def local_path(path: str | PathLike[str]) -> Path:
    """Return a path of this machine, to read from.

    Raises:
        MobiusError: If it is an address; the message has the command that downloads the data.
    """
    if (remote := address(path)) is None:
        return Path(path)
    raise MobiusError(
        f"{remote} is an address, and a path of this machine is needed here. {_brought_here(remote)} "
        f"See {PAGE}."
    )


def _brought_here(remote: str) -> str:
    scheme, _, rest = remote.partition("://")
    if scheme == "file":
        return f"Write {rest} instead."
    name = f"my_{PurePosixPath(rest).name or 'folder'}"
    if scheme not in _DVC_IMPORTS:
        return f"Download it, and name the folder instead, {name} for instance."
    command = shlex.join(["dvc", "import-url", remote, name])
    return f"Bring it here with `{command}`, and name {name} instead."


def local_output(path: str | PathLike[str], what: str) -> Path:
    """Return a path of this machine, to write to.

    Args:
        path: The path as a user wrote it.
        what: A sentence for the error: what is written, and why not to an address.

    Raises:
        MobiusError: If it is an address.
    """
    if (remote := address(path)) is None:
        return Path(path)
    raise MobiusError(
        f"{remote} is an address. {what} Name a path of this machine, and copy the result with `dvc push`. "
        f"See {PAGE}."
    )
