"""Read and write files through fsspec, for example in object storage; errors name their address."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal, Protocol

from mobius_pipeline.runtime.addresses import PAGE
from mobius_pipeline.runtime.errors import MobiusError


class Readable(Protocol):
    """A `Path` or a remote file; `str` of it is its name in errors."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open the file."""

    def exists(self) -> bool:
        """Return whether the file exists."""


@dataclass(frozen=True)
class RemoteFile:
    """A file in a file system of fsspec.

    Attributes:
        fs: The file system.
        path: The path in it.
        address: The path with the protocol.
    """

    fs: Any
    path: str
    address: str

    def __str__(self) -> str:
        """Return the address."""
        return self.address

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Read the whole file.

        Raises:
            FileNotFoundError: If there is no such file.
            MobiusError: If it cannot be read, with the reason.
        """
        with self._explained("read"):
            return BytesIO(self.fs.cat_file(self.path))

    def exists(self) -> bool:
        """Return whether the file exists.

        Raises:
            MobiusError: If this cannot be determined, with the reason.
        """
        with self._explained("read"):
            return bool(self.fs.exists(self.path))

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """Yield a path of this machine to write to; the file is uploaded if the block succeeds.

        Raises:
            MobiusError: If the upload fails, with the reason.
        """
        with TemporaryDirectory() as folder:
            partial = Path(folder, "partial")
            yield partial
            with self._explained("write"):
                self.fs.put_file(str(partial), self.path)
                self.fs.invalidate_cache(self.path)

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system has its own errors
            bucket = self.path.partition("/")[0]
            if isinstance(error, FileNotFoundError) and (not bucket or self._has(bucket)):
                raise
            what = " ".join(str(error).split()) or type(error).__name__
            raise MobiusError(
                f"Cannot {verb} {self.address} ({type(error).__name__}: {what}). Check the address, whether "
                "its server can be reached, and the credentials: those that the catalog's entry names in "
                f"conf/local/credentials.yml, or the environment. See {PAGE}."
            ) from error

    def _has(self, bucket: str) -> bool:
        try:
            return bool(self.fs.exists(bucket))
        except Exception:  # the bucket may be private although its files are not
            return False


@contextmanager
def explained_system(address: str) -> Iterator[None]:
    """Explain why fsspec has no file system for an address.

    Raises:
        MobiusError: If its package is not installed, or the protocol is unknown.
    """
    try:
        yield
    except ImportError as error:
        raise MobiusError(
            f"{address} needs a package that is not installed: {error}. For s3://, "
            f"`pip install dvc-s3`. See {PAGE}."
        ) from error
    except ValueError as error:
        raise MobiusError(f"{address} cannot be used: {error}. See {PAGE}.") from error
