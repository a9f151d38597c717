"""Test the commands of docs/remote_data.md against a real S3 server."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.io import DatasetError

from bucket import S3, s3_server, with_credentials, without_credentials
from copies import copied
from in_process import kedro
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.runtime.errors import in_plain_words
from mobius_pipeline.runtime.files import folder_digest
from project import ROOT, change, commit, make_project, run

PAGE = (ROOT / "docs/remote_data.md").read_text()
SMALL = {
    "steps": 2,
    "timer_warmup": 0,
    "evaluate_every": 2,
    "checkpoint_every": 2,
    "previews": None,
    "equal_compute": False,
}
# The page's commands for all stages are run for some of them only.
PART = {"dvc repro": "dvc repro train@parallel", "dvc pull": "dvc pull --with-deps train@parallel"}
UP_TO_DATE = "Data and pipelines are up to date."
KEPT = 20  # of 24 clips, the number that is in the bucket first


def section(title: str) -> str:
    """Return a section of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """Return the commands of a section in order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def follow(folder: Path, server: S3, words: list[str], **other: str) -> str:
    """Run a command of the page with this machine's addresses."""
    here = {"https://s3.example.org": server.endpoint, **other}
    command = " ".join(here.get(word, shlex.quote(word)) for word in words)
    return run(folder, "bash", "-euo", "pipefail", "-c", PART.get(command, command))


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running, pytest.MonkeyPatch.context() as patch:
        running.client.create_bucket(Bucket="my-bucket")
        with_credentials(patch, running)
        yield running


@pytest.fixture(scope="module")
def project(
    server: S3,
    sample_clips: Path,
    tiny_base: Path,
    mlflow_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A project after the page's first two sections, with clips imported and results pushed."""
    server.upload("my-bucket", "clips", *media(sample_clips)[:KEPT], sample_clips / "captions.csv")
    folder = tmp_path_factory.mktemp("team") / "project"
    make_project(folder, mlflow_template)
    change(folder / "conf/base/globals.yml", {"base_model": "my_model"})
    change(folder / "conf/base/parameters_train.yml", {"train": SMALL})
    copied(tiny_base, folder / "my_model")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "add", "-q", "my_model")
    commit(folder, "A project")
    change(folder / "conf/base/globals.yml", yaml.safe_load(yaml_block(section("Clips"))))
    before_update = section("Clips").partition("When clips were added")[0]
    before_clone = section("Results").partition("A clone")[0]
    for words in [
        *commands(PAGE.partition("## Clips")[0])[1:],  # without the installation commands
        *commands(before_update),
        *commands(before_clone),
    ]:
        follow(folder, server, words)
    return folder


def media(folder: Path) -> list[Path]:
    return sorted(folder.glob("clip-*"))


def yaml_block(text: str) -> str:
    return text.partition("```yaml\n")[2].partition("```")[0]


def test_imported_clips_are_what_the_chain_reads(project: Path, server: S3) -> None:
    table = pd.read_parquet(project / "data/02_intermediate/clips.parquet")
    assert len(table) == KEPT
    assert run(project, "git", "status", "--porcelain") == ""
    assert not (project / "data/01_raw/clips").exists()  # no sample clips were rendered
    tracked = [project / name for name in run(project, "git", "ls-files").splitlines()]
    texts = [path.read_text(errors="replace") for path in tracked]
    assert [text for text in texts if server.secret in text or server.key in text] == []


def test_the_sample_clips_folder_is_refused(project: Path) -> None:
    (project / "data/01_raw").mkdir(exist_ok=True)
    with pytest.raises(AssertionError, match="already specified in stage: 'sample_data'"):
        run(project, "dvc", "import-url", "remote://clips", "data/01_raw/clips")


def test_a_clone_with_an_empty_cache_has_nothing_to_run(project: Path, server: S3, tmp_path: Path) -> None:
    clone, (_, enter, pull, repro) = tmp_path / "clone", commands(section("Results").partition("A clone")[2])
    assert enter[0] == "cd"
    run(tmp_path, "git", "clone", "-q", str(project), "clone")
    follow(clone, server, pull)
    assert UP_TO_DATE in follow(clone, server, repro)
    assert run(clone, "git", "status", "--porcelain") == ""
    assert folder_digest(clone / "my_clips") == folder_digest(project / "my_clips")


def test_other_projects_fetch_models_by_name(project: Path, server: S3, tmp_path: Path) -> None:
    """Get a model from a git server and the bucket; it is the trained one, and it works."""
    repository, other = tmp_path / "mobius.git", tmp_path / "other"
    other.mkdir()
    every = commands(section("Models for other projects"))
    register, fetch = every[:4], every[4:]
    run(tmp_path, "git", "clone", "-q", "--bare", str(project), repository.name)
    run(project, "git", "remote", "add", "origin", str(repository))
    for words in register:
        follow(project, server, words)
    run(other, "git", "init", "-q")
    run(other, "dvc", "init", "-q")
    for words in fetch:
        follow(other, server, words, **{"https://git.example.org/mobius.git": repository.as_uri()})
    trained = folder_digest(project / "data/06_models/parallel")
    assert {folder_digest(other / name) for name in ("my_parallel", "in_production", "newest")} == {trained}
    base = folder_digest(project / "data/06_models/base")
    assert {folder_digest(other / name) for name in ("base", "my_base")} == {base}
    pipe = MobiusTextToVideoPipeline.from_pretrained(other / "my_base", other / "my_parallel")
    video = pipe("a red ring", num_frames=4, num_inference_steps=1, output_type="np").frames
    assert video.shape == (1, 4, 16, 16, 3)


def test_of_a_changed_bucket_only_new_clips_are_decoded_and_encoded(
    project: Path, server: S3, sample_clips: Path
) -> None:
    server.upload("my-bucket", "clips", *media(sample_clips)[KEPT:])
    before = shards(project)
    update = commands(section("Clips").partition("When clips were added")[2])[0]
    follow(project, server, update)
    said = " ".join(run(project, "dvc", "repro", "encode").split())
    assert f"{KEPT} of 24 sources were known by their bytes and not decoded again" in said
    assert f"Clips: {KEPT} already encoded, {24 - KEPT} to encode." in said
    assert before.items() < shards(project).items()


def test_of_sub_folders_only_those_that_changed_are_downloaded(
    server: S3, sample_clips: Path, tmp_path: Path
) -> None:
    clips = media(sample_clips)
    server.upload("my-bucket", "clips/2026-10", *clips[:2])
    server.upload("my-bucket", "clips/2026-11", *clips[2:4])
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    *imports, update = commands(section("Clips").partition("For a large store")[2])
    for words in [*commands(PAGE.partition("## Clips")[0])[1:], *imports]:
        follow(tmp_path, server, words)
    server.upload("my-bucket", "clips/2026-11", *clips[4:6])
    said = follow(tmp_path, server, update)
    assert "'my_clips/2026-10.dvc' didn't change, skipping" in said
    assert "'my_clips/2026-11.dvc'" not in said
    assert find_media(tmp_path / "my_clips").paths == [
        f"2026-{month}/{clip.name}" for month, some in ((10, clips[:2]), (11, clips[2:6])) for clip in some
    ]
    for name in server.names("my-bucket"):
        if name.startswith("clips/2026"):
            server.client.delete_object(Bucket="my-bucket", Key=name)


def shards(project: Path) -> dict[str, tuple[int, int]]:
    """Return the latents' shards with the file attributes that change if one is rewritten."""
    found = (project / "data/05_model_input/latents").rglob("*.safetensors")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def entries(project: Path, server: S3) -> Iterator[Path]:
    """Write the page's entries into `conf/local`, with the credentials of this server."""
    local = project / "conf/local"
    catalog, credentials = re.findall(r"^```yaml\n(.*?)^```$", section("Entries of the catalog"), re.M | re.S)
    (local / "catalog.yml").write_text(catalog)
    storage = yaml.safe_load(credentials)["storage"]
    assert storage.keys() == server.credentials.keys()
    (local / "credentials.yml").write_text(yaml.safe_dump({"storage": server.credentials}))
    yield local
    for name in ("catalog.yml", "credentials.yml"):
        (local / name).unlink()


def test_tables_of_the_catalog_lie_in_the_bucket(
    entries: Path,
    project: Path,
    server: S3,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Kedro reads the credentials from `conf/local`; without them, the error is one sentence."""
    without_credentials(monkeypatch)
    assert run(project, "git", "status", "--porcelain", "conf") == ""
    kedro(project, "run", "--pipelines=validate")
    assert "tables/manifest.parquet" in server.names("my-bucket")
    wrong = {"storage": {**server.credentials, "secret": "s3cr3tVALUE"}}
    (entries / "credentials.yml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(DatasetError) as refused:
        kedro(project, "run", "--pipelines=encode")
    said = in_plain_words(refused.value)
    assert said is not None
    assert said.startswith("Cannot read s3://my-bucket/tables/manifest.parquet (PermissionError: ")
    shown = "".join(capfd.readouterr())
    assert "s3cr3tVALUE" not in shown
    assert server.secret not in shown
