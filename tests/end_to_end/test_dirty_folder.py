"""Test real and dirty data: every kind of input is handled, and bad ones are left out with a reason."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from dirty import write_dirty_folder
from project import change, copy_project, finished

GOOD_OF_OWN = 21


@dataclass(frozen=True)
class Dirty:
    """A project over a dirty folder of clips, its bad and good sources, and the result of a first run."""

    project: Path
    bad: dict[str, str]
    good: list[str]
    said: str
    manifest: pd.DataFrame
    quarantine: "pd.Series[str]"


def words(done: "subprocess.CompletedProcess[str]") -> str:
    """Return a command's output with its lines joined, because the log wraps them."""
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def dirty(finished_project: Path, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Dirty:
    project = copy_project(finished_project, tmp_path_factory.mktemp("dirty") / "project", mlflow_template)
    bad, good = write_dirty_folder(project / "clips")
    change(project / "conf/base/globals.yml", {"clips": "clips"})
    scenes = {"detector": "content", "threshold": 27, "min_length_s": 0.5}
    change(project / "conf/base/parameters_ingest.yml", {"ingest": {"scenes": scenes}})
    path = project / "conf/base/parameters_validate.yml"
    path.write_text(
        path.read_text().replace("column: motion, min_value: 0,", "column: motion, min_value: 0.1,")
    )
    said = words(finished(project, "kedro", "run", "--pipelines=ingest,validate,encode,train_parallel"))
    manifest = pd.read_parquet(project / "data/03_primary/manifest.parquet").set_index("path")
    quarantine = pd.read_parquet(project / "data/03_primary/quarantine.parquet").set_index("path")["reason"]
    return Dirty(project, bad, good, said, manifest, quarantine)


def test_a_dirty_folder_goes_through(dirty: Dirty) -> None:
    project, bad, good = dirty.project, dirty.bad, dirty.good
    manifest, quarantine = dirty.manifest, dirty.quarantine
    assert set(quarantine.index) == set(bad)
    assert f"{len(manifest)} clips pass, {len(bad)} quarantined" in dirty.said
    for path, reason in bad.items():
        assert reason in quarantine[path], path

    assert set(good) <= set(manifest["source"])
    assert manifest["source"].nunique() == GOOD_OF_OWN + len(good) + 1  # and the first of the copies
    scenes = manifest[manifest["source"] == "long.webm"]
    assert list(scenes["start_frame"]) == [0, 24, 48]
    assert scenes["split"].nunique() == 1  # scenes of one film are never split between training and held-out
    several = manifest.loc["shards/000.tar/a.mp4", "captions"]
    assert list(several) == ["the first in a shard", "its second caption"]
    latents = project / "data/05_model_input/latents"
    (index,) = latents.glob(f"{pd.read_json(latents / 'current.json', typ='series')['folder']}/index.parquet")
    assert set(pd.read_parquet(index)["path"]) - {""} == set(manifest.index)
    assert (project / "data/06_models/parallel/metrics.json").is_file()


def test_only_what_is_new_is_read_and_encoded(dirty: Dirty) -> None:
    project, first = dirty.project, dirty.manifest
    clip = project / "clips/shots/0001"
    clip.rename(clip.with_name("0002"))
    (project / "clips/shots/0001.txt").rename(project / "clips/shots/0002.txt")
    said = words(finished(project, "kedro", "run", "--pipelines=ingest,validate,encode"))
    table = pd.read_parquet(project / "data/02_intermediate/clips.parquet")
    good = table.loc[table["status"] == "ok", "source"].nunique()
    assert re.search(rf" {good} of \d+ sources were known by their bytes", said)
    second = pd.read_parquet(project / "data/03_primary/manifest.parquet").set_index("path")
    assert second.loc["shots/0002", "clip_id"] == first.loc["shots/0001", "clip_id"]
    assert f"{len(second)} already encoded, 0 to encode" in said
