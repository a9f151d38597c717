"""Links into allowed folders are followed: into DVC's cache, and into those of a parameter."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ingested import captions_of
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.links import Allowed, dvc_caches
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.ingest.table import tabulate
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.runtime.errors import MobiusError
from probing import probe

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
INGEST = IngestConfig(heldout_share=0.5, files_per_batch=4)
CLIP = ClipFormat(frames=4, height=16, width=16, fps=8)


def dvc(project: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "--quiet"], cwd=project, check=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC project with a clip, its caption and a sequence."""
    project = tmp_path / "project"
    (project / "clips/shot").mkdir(parents=True)
    write_gif(project / "clips/a.gif", FRAMES, 8)
    (project / "clips/a.txt").write_text("noise")
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(project / f"clips/shot/{number}.png")
    (project / "clips/shot/sequence.json").write_text('{"fps": 8}')
    dvc(project, "init", "--no-scm")
    dvc(project, "config", "cache.type", "symlink")
    return project


@pytest.mark.parametrize("cache", [None, "../elsewhere"])
def test_links_into_the_cache_of_dvc_are_the_folder_s_own(cache: str | None, project: Path) -> None:
    if cache:
        dvc(project, "config", "--local", "cache.dir", str(project / cache))
    dvc(project, "add", "clips")
    clips = project / "clips"
    assert (clips / "a.gif").is_symlink()
    assert (clips / "shot/0.png").is_symlink()
    assert [path.resolve() for path in dvc_caches(project)] == [(project / (cache or ".dvc/cache")).resolve()]
    found = find_media(clips, Allowed(project=project))
    assert (found.paths, found.refused) == (["a.gif", "shot"], {})
    assert [probe(clips / path).frames for path in found.paths] == [4, 4]
    assert captions_of(clips, INGEST, found) == {"a.gif": ["noise"]}
    assert find_media(clips, Allowed()).paths == []


def test_dvc_of_the_clips_own_folder_allows_nothing(project: Path, tmp_path: Path) -> None:
    """That configuration came with the clips, and could name any folder of this machine as its cache."""
    (tmp_path / "secret").mkdir()
    write_gif(tmp_path / "secret/b.gif", FRAMES, 8)
    clips = project / "clips"
    (clips / "b.gif").symlink_to(tmp_path / "secret/b.gif")
    dvc(clips, "init", "--no-scm", "--force")
    dvc(clips, "config", "cache.dir", str(tmp_path / "secret"))
    assert list(find_media(clips, Allowed(project=project)).refused) == ["b.gif"]


def test_a_damaged_configuration_of_dvc_is_reported(project: Path, tmp_path: Path) -> None:
    (project / ".dvc/config").write_text("[cache\n")
    assert find_media(project / "clips", Allowed(project=project)).refused == {}  # nobody asks for it
    write_gif(tmp_path / "b.gif", FRAMES, 8)
    (project / "clips/b.gif").symlink_to(tmp_path / "b.gif")
    with pytest.raises(MobiusError, match=r"DVC's configuration for .* is damaged"):
        find_media(project / "clips", Allowed(project=project))


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A snapshot in Hugging Face's cache, and a link that leads elsewhere."""
    hub = tmp_path / "hub/datasets--a--b"
    snapshot = hub / "snapshots/0123"
    (hub / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    write_gif(hub / "clip.gif", FRAMES, 8)
    (hub / "clip.gif").rename(hub / "blobs/beef")
    (snapshot / "x.gif").symlink_to("../../blobs/beef")
    write_gif(tmp_path / "other.gif", FRAMES, 8)
    (snapshot / "y.gif").symlink_to(tmp_path / "other.gif")
    return snapshot


@pytest.mark.parametrize("named", ["hub", "hub/datasets--a--b/blobs", "{}/hub", "~/hub", "linked"])
def test_a_parameter_allows_folders(
    named: str, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "linked").symlink_to("hub")
    config = INGEST.model_copy(update={"linked_folders": (named.format(tmp_path),)})
    table = pd.read_parquet(tabulate(snapshot, config, CLIP, tmp_path / "work", project=tmp_path))
    reported = table.set_index("path")
    assert reported["status"].to_dict() == {"x.gif": "ok", "y.gif": "rejected"}
    assert f"outside the folder of clips, to {tmp_path / 'other.gif'}," in reported["reason"]["y.gif"]
    assert "ingest.linked_folders" in reported["reason"]["y.gif"]


def test_a_name_that_begins_alike_is_another_folder(tmp_path: Path) -> None:
    for name in ("clips", "hub", "hub2"):
        (tmp_path / name).mkdir()
    write_gif(tmp_path / "hub2/a.gif", FRAMES, 8)
    (tmp_path / "clips/a.gif").symlink_to("../hub2/a.gif")
    (tmp_path / "hub/way_out").symlink_to("../hub2")
    (tmp_path / "clips/b").symlink_to("../hub")
    found = find_media(tmp_path / "clips", Allowed(["hub"], tmp_path))
    assert found.paths == []
    assert set(found.refused) == {"a.gif", "b/way_out"}


def test_a_linked_folder_that_is_allowed_is_looked_through_once(tmp_path: Path) -> None:
    (tmp_path / "films/sub").mkdir(parents=True)
    (tmp_path / "clips/deep").mkdir(parents=True)
    write_gif(tmp_path / "films/sub/a.gif", FRAMES, 8)
    (tmp_path / "films/sub/round").symlink_to("..")
    (tmp_path / "films/back").symlink_to("../clips")
    (tmp_path / "clips/one").symlink_to("../films")
    (tmp_path / "clips/deep/two").symlink_to("../../films")
    found = find_media(tmp_path / "clips", Allowed(["films"], tmp_path))
    assert found.paths == ["deep/two/sub/a.gif"]
    assert set(found.refused) == {"one", "deep/two/sub/round", "deep/two/back"}
    assert probe(tmp_path / "clips" / found.paths[0]).frames == 4
