"""Files that fsspec reads and writes, in a bucket for instance; errors name their address."""

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
    """A `Path`, or a file elsewhere; its text names it in errors."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open it."""

    def exists(self) -> bool:
        """Whether it is there."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of another file system.

    Attributes:
        fs: Of fsspec.
        path: Its path there.
        address: Its path with the protocol.
    """

    fs: Any
    path: str
    address: str

    def __str__(self) -> str:
        """Its address."""
        return self.address

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Read it, whole.

        Raises:
            FileNotFoundError: If there is no such file.
            MobiusError: If it cannot be read, with the reason.
        """
        with self._explained("read"):
            return BytesIO(self.fs.cat_file(self.path))

    def exists(self) -> bool:
        """Whether it is there.

        Raises:
            MobiusError: If this cannot be found out, with the reason.
        """
        with self._explained("read"):
            return bool(self.fs.exists(self.path))

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """Yield a path of this machine to write a file to; it is uploaded if the block succeeds.

        Raises:
            MobiusError: If it cannot be, with the reason.
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
        except Exception as error:  # each file system has errors of its own
            bucket = self.path.partition("/")[0]
            if isinstance(error, FileNotFoundError) and (not bucket or self._has(bucket)):
                raise
            what = " ".join(str(error).split()) or type(error).__name__
            raise MobiusError(
                f"Cannot {verb} {self.address} ({type(error).__name__}: {what}). Check the address, whether "
                "its server can be reached, and who logs in: what the catalog's entry names in "
                f"conf/local/credentials.yml, or the environment. See {PAGE}."
            ) from error

    def _has(self, bucket: str) -> bool:
        try:
            return bool(self.fs.exists(bucket))
        except Exception:  # it may be closed, though what is in it is not
            return False


@contextmanager
def explained_system(address: str) -> Iterator[None]:
    """Explain why fsspec has no file system for an address.

    Raises:
        MobiusError: If its package is not installed, or there is no such protocol.
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
