"""Fixtures that several rooms share; being here also lets tests import their helpers beside this file."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import comparison_example
from mobius_pipeline.runtime import telemetry

telemetry.silence()
# Tiny models gain nothing from threads, and golden losses must not depend on how many there are.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying it nothing."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow-template") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracked_project(tmp_path: Path, mlflow_template: Path) -> Iterator[Path]:
    """A project folder with tracking configured, and its state put back afterwards."""
    from mobius_pipeline.tracking import api as tracking

    (tmp_path / "mlruns").mkdir()
    shutil.copy(mlflow_template, tmp_path / "mlruns/mlflow.db")
    tracking.configure(tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns")), tmp_path)
    yield tmp_path
    tracking.reset()


@pytest.fixture(scope="session")
def sample_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos that `comparison_example.comparison()` names."""
    return comparison_example.write_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T2I model in diffusers format."""
    import tiny

    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def sample_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 sample clips in all four formats, with `captions.csv`."""
    import golden
    from mobius_pipeline.sources.sample_clips import write_set

    folder = tmp_path_factory.mktemp("clips")
    write_set(folder, golden.CLIPS)
    return folder


@pytest.fixture(scope="session")
def sample_table(sample_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> "pd.DataFrame":
    """The table of the sample clips, with both splits in it."""
    import golden
    import tiny
    from ingested import ingested

    return ingested(sample_clips, golden.INGEST, tiny.CLIP, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="session")
def tiny_store(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base: Path,
    sample_clips: Path,
    sample_table: "pd.DataFrame",
) -> Path:
    """The sample clips' latents under the tiny base model."""
    import tiny
    from mobius_pipeline.latents.update import update_store

    root = tmp_path_factory.mktemp("latents")
    update_store(root, sample_table, sample_clips, tiny_base, tiny.CLIP, tiny.encode_config())
    return root
