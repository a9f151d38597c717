"""A full disk or a missing permission is reported without a traceback; other errors keep theirs."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import create_engine, text
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from mobius_pipeline.runtime.errors import MobiusError, in_plain_words

Write = Callable[[Path], object]


@pytest.fixture
def no_room() -> Iterator[None]:
    """Limit the files of this process to 64 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def by_python(path: Path) -> None:
    path.write_bytes(bytes(99))


def by_safetensors(path: Path) -> None:
    save_file({"x": torch.zeros(99)}, path)


def by_tokenizers(path: Path) -> None:
    Tokenizer(WordLevel({"x": 0}, "x")).save(str(path))


def by_sqlalchemy(path: Path) -> None:
    with create_engine("sqlite://").connect() as database:
        database.execute(text("PRAGMA max_page_count = 1"))
        database.execute(text("CREATE TABLE t (x)"))


def by_another_error(path: Path) -> None:
    try:
        by_python(path)
    except OSError as error:
        raise RuntimeError("the step failed") from error


@pytest.mark.parametrize("write", [by_python, by_safetensors, by_tokenizers, by_sqlalchemy, by_another_error])
@pytest.mark.usefixtures("no_room")
def test_a_full_disk_is_reported_wherever_it_is_met(write: Write, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the library raises
        write(tmp_path / "file")
    words = in_plain_words(caught.value)
    assert words is not None
    assert words.startswith("The disk is full (")
    assert "give the same command again" in words
    assert "\n" not in words


def test_a_long_story_is_cut_to_what_matters() -> None:
    story = shutil.Error([("from/here", "to/there", "[Errno 28] No space left on device")] * 9)
    assert str(in_plain_words(story)).startswith("The disk is full (No space left). ")


def test_other_errors_keep_their_traceback() -> None:
    assert in_plain_words(OSError(5, "Input/output error")) is None
    with closing(sqlite3.connect(":memory:")) as database, pytest.raises(sqlite3.Error) as caught:
        database.execute("SELECT x FROM nothing")
    assert in_plain_words(caught.value) is None


def test_an_error_of_ours_is_its_own_words_whoever_wraps_it() -> None:
    wrapped = RuntimeError("a step failed")
    wrapped.__cause__ = MobiusError("Repair this.")
    assert in_plain_words(wrapped) == in_plain_words(wrapped.__cause__) == "Repair this."


def test_an_error_that_was_raised_from_none_is_another_one() -> None:
    """Only causes that a traceback shows count."""

    def fail() -> None:
        try:
            raise MobiusError("Repair this.")
        except MobiusError:
            raise RuntimeError("a fault of ours") from None

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert in_plain_words(caught.value) is None


def test_a_kedro_run_prints_the_words_alone() -> None:
    code = "import mobius_pipeline.hooks\nwith open('/dev/full', 'w') as file: file.write('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("\nmobius: The disk is full (")
    assert "Traceback" not in done.stderr


@pytest.fixture
def no_right(tmp_path: Path) -> Iterator[Path]:
    """A folder in which this process cannot write."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # nobody, since root may write everywhere
    yield folder
    os.seteuid(before)


def by_a_database(path: Path) -> None:
    with closing(sqlite3.connect("file::memory:?mode=ro", uri=True)) as database:
        database.execute("PRAGMA query_only = 1")
        database.execute("CREATE TABLE t (x)")


@pytest.mark.parametrize("write", [by_python, by_safetensors, by_tokenizers, by_a_database, by_another_error])
def test_a_place_that_may_not_be_written_is_reported_wherever_it_is_met(write: Write, no_right: Path) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011 - whatever the library raises
        write(no_right / "file")
    words = in_plain_words(error.value)
    assert words is not None
    assert words.startswith("No right to read or write there (")


def test_another_error_of_the_system_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        by_python(tmp_path / "missing/file")
    assert in_plain_words(error.value) is None
