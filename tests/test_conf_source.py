"""A configuration reads the same from a folder, a tar or zip archive, and a remote folder."""

import shutil
from pathlib import Path

import fsspec
import pytest

from mobius_pipeline.conf_source import conf_texts, refuse_empty
from mobius_pipeline.hooks import catalog_parameters
from mobius_pipeline.runtime.errors import MobiusError

FILES = {
    "conf [a]/base/catalog.yml": "clips: ${runtime_params:clips,x}",
    "conf [a]/base/catalog_more.yml": "model: ${runtime_params:base_model}",
    "conf [a]/mine/catalog.yml": "clips: ${runtime_params:mine.clips}",
    "conf [a]/base/globals.yml": "data: ${runtime_params:none}",
    "conf [a]/catalog.yml": "clips: ${runtime_params:none}",
}


@pytest.fixture(params=["folder", "tar.gz", "zip", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    memory = fsspec.filesystem("memory")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        memory.pipe(f"/{name.replace(' [a]', '')}", text.encode())
    if request.param == "folder":
        return str(tmp_path / "conf [a]")
    if request.param == "memory":
        return "memory://conf"
    kind = {"tar.gz": "gztar", "zip": "zip"}[request.param]
    return shutil.make_archive(str(tmp_path / "archive"), kind, tmp_path, "conf [a]")


def test_names_that_only_catalogs_read_are_found(source: str) -> None:
    assert catalog_parameters(source) == {"clips", "base_model", "mine.clips"}


def test_files_are_read_in_their_order(source: str) -> None:
    names = ["base/catalog.yml", "base/catalog_more.yml"]
    assert conf_texts(source, "base/catalog*.yml") == [FILES[f"conf [a]/{name}"] for name in names]
    refuse_empty(source)


def test_what_holds_no_base_is_refused_with_what_to_name(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "conf"):
        with pytest.raises(MobiusError, match=r"no configuration in .*--conf-source"):
            refuse_empty(str(source))
