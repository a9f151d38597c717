"""An address instead of a path is refused everywhere a user can enter one."""

from pathlib import Path

import pytest
import yaml

from in_process import kedro
from mobius_pipeline import cli
from mobius_pipeline.ingest.links import Allowed
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.runtime.addresses import address, local_path
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from project import change, make_project


@pytest.mark.parametrize(
    "path", ["clips", "/data/clips", "a:b", "C:/clips", "../clips", "~/clips", "2026-11:03/clips", ".", ""]
)
def test_a_path_is_a_path(path: str) -> None:
    assert address(path) is None
    assert local_path(path) == Path(path)


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("s3://bucket/clips", "`dvc import-url s3://bucket/clips my_clips`, and name my_clips"),
        ("s3://bucket", "`dvc import-url s3://bucket my_bucket`"),
        ("remote://clips/of 2026/", "`dvc import-url 'remote://clips/of 2026' 'my_of 2026'`"),
        ("https://host/set.tar", "`dvc import-url https://host/set.tar my_set.tar`"),
        ("hf://datasets/me/clips", "Download it, and name the folder instead, my_clips for instance"),
        ("file:///data/clips", "Write /data/clips instead"),
    ],
)
def test_an_address_is_refused_with_what_brings_it_here(written: str, fix: str) -> None:
    for given in (written, Path(written)):  # which has one slash less
        with pytest.raises(MobiusError) as refused:
            local_path(given)
        assert str(refused.value).startswith(f"{address(written)} is an address")
        assert fix in str(refused.value)


def test_who_logs_in_is_not_shown() -> None:
    with pytest.raises(MobiusError) as refused:
        local_path("s3://key:hunter2@bucket/clips")
    assert "hunter2" not in str(in_plain_words(refused.value))


COMMANDS = (
    (["summary", "--data", "s3://b/data"], "`dvc import-url s3://b/data my_data`"),
    (["plan", "--config", "s3://b/model", "--output", "plan.json"], "`dvc import-url s3://b/model my_model`"),
    (["plan", "--config", "model", "--output", "s3://b/plan.json"], "`dvc push`"),
    (["export", "s3://b/serial", "--base", "base", "--output", "out"], "my_serial"),
    (["export", "serial", "--base", "s3://b/base", "--output", "out"], "my_base"),
    (["export", "serial", "--base", "base", "--output", "s3://b/out"], "`dvc push`"),
    (["join", "s3://b/job.json"], "my_job.json"),
)


@pytest.mark.parametrize(("words", "fix"), COMMANDS)
def test_commands_refuse_addresses(
    words: list[str],
    fix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("mobius: s3://b/")
    assert "is an address" in said
    assert fix in said
    assert list(tmp_path.iterdir()) == []


def test_listings_links_and_models_refuse_addresses(tmp_path: Path) -> None:
    (tmp_path / "listing.csv").write_text("file,caption\ns3://b/a.mp4,a cat\n")
    assert find_media(tmp_path).refused == {
        "s3:/b/a.mp4": "an address; nothing is downloaded. Bring its folder here first (docs/remote_data.md)."
    }
    with pytest.raises(MobiusError, match="s3://b/hub is an address"):
        assert "/elsewhere" in Allowed(["s3://b/hub"])
    for base, trained in (("s3://b/base", "serial"), (tmp_path, "s3://b/serial")):
        with pytest.raises(MobiusError, match="is an address"):
            MobiusTextToVideoPipeline.from_pretrained(base, trained)


def test_a_project_refuses_addresses(tmp_path: Path, mlflow_template: Path) -> None:
    """In `--params` and in globals.yml, before anything is written."""
    make_project(tmp_path, mlflow_template)

    def said(*words: str) -> str:
        with pytest.raises(Exception, match="address") as refused:
            kedro(tmp_path, "run", *words)
        return str(in_plain_words(refused.value))

    bring = "Bring it here with `dvc import-url s3://b/{0} my_{0}`, and name my_{0} instead."
    assert bring.format("clips") in said("--pipelines=ingest", "--params=clips=s3://b/clips")
    assert bring.format("model") in said("--pipelines=base", "--params=base_model=s3://b/model")
    paths = tmp_path / "conf/base/globals.yml"
    change(paths, {"clips": "s3://b/clips"})
    assert bring.format("clips") in said("--pipelines=ingest")
    change(paths, {"clips": "clips", "data": "s3://b/data"})
    assert "`data` of globals.yml is where" in said("--pipelines=ingest")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("s3")) == []
    assert yaml.safe_load(paths.read_text())["data"] == "s3://b/data"
