"""List the files of a configuration source (a folder or an archive), which Kedro's loader does not expose."""

import mimetypes
from pathlib import Path

import fsspec

from mobius_pipeline.runtime.errors import MobiusError

_ARCHIVES = {
    "application/x-tar": "tar",
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
}


def conf_texts(source: str, pattern: str) -> list[str]:
    """Return the texts of the files below `source` whose paths match `pattern`, such as `base/*.yml`.

    `source` is what `--conf-source` takes: a folder, a tar or zip archive of one, or a remote folder's URL.
    """
    if Path(source).is_dir():
        return [path.read_text(encoding="utf-8") for path in sorted(Path(source).glob(pattern))]
    if archive := _ARCHIVES.get(mimetypes.guess_type(source)[0] or ""):
        files, within = fsspec.filesystem(archive, fo=source), f"*/{pattern}"
    else:
        files, root = fsspec.url_to_fs(source)
        within = f"{root}/{pattern}"
    return [files.read_text(path, encoding="utf-8") for path in sorted(files.glob(within))]


def refuse_empty(source: str) -> None:
    """Check that `source` contains the configuration of the environment `base`.

    Raises:
        MobiusError: If it does not; the message says how to name another source.
    """
    if not conf_texts(source, "base/*.yml"):
        raise MobiusError(
            f"There is no configuration in {source}: no base/*.yml. Name another folder with --conf-source, "
            "or the archive conf-mobius_pipeline.tar.gz that `kedro package` writes, or unpack it here."
        )
