"""Trainings become versions of a registered model, which samples without the project."""

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import tiny
from comparison_example import changed, comparison
from copies import copied
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.model import Comparison
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.pipelines.register.nodes import register
from mobius_pipeline.pipelines.train.nodes import train
from mobius_pipeline.registry.card import UNKNOWN, licence_of
from mobius_pipeline.registry.config import RegisterConfig
from mobius_pipeline.registry.package import CARD, REQUIREMENTS
from mobius_pipeline.registry.registration import Registration
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.backend import open_client
from mobius_pipeline.tracking.ui import running_server
from mobius_pipeline.training.result import TrainingResult
from ports import free_port

pytestmark = pytest.mark.slow
PROMPTS = ["a red circle", "a blue ring"]
CONFIG = RegisterConfig(
    name="mobius",
    candidate={"within_percent": 0, "least": "peak_memory_bytes"},
    champion={"within_percent": 0},
    sampling={"seed": 7, "steps": 2, "guidance_scale": 1.5},
    include_base=True,
    base_licence="Apache-2.0",
    prompt=PROMPTS[0],
)
Trained = dict[str, TrainingResult]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """The folder of a project with an MLflow store."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def tracked(project: Path) -> Iterator[None]:
    """Tracking configured for the project."""
    configure(project)
    yield
    tracking.reset()


def configure(project: Path) -> None:
    tracking.configure(tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns")), project)


@pytest.fixture(scope="module")
def trained(project: Path, tiny_store: Path, tiny_base: Path) -> Trained:
    """A training of each mode, recorded in the project's MLflow."""
    configure(project)
    store, serial = LatentsStore(tiny_store), tiny.variant("serial")
    made = {}
    for mode in ("serial", "parallel"):
        model = tiny.variant(mode)
        result = train(store, BaseModel(tiny_base), tiny.train_config(), model, serial, project / "work")
        shutil.copytree(result.folder, project / "models" / mode)
        made[mode] = TrainingResult(project / "models" / mode)
    return made


@pytest.fixture
def config(request: pytest.FixtureRequest) -> RegisterConfig:
    """Settings with a registered model for this test only."""
    return CONFIG.model_copy(update={"name": request.node.name})


def compared(trained: Trained, **losses: float) -> Comparison:
    """Return the comparison of the trainings, with the measured losses or those of a test."""
    found = comparison()
    for mode, result in trained.items():
        loss = losses.get(mode, result.metrics.heldout_loss)
        found = changed(found, "columns", mode, heldout_loss=loss, run_ids=[result.metrics.run_id])
    return found


def registered(
    trained: Trained,
    base: Path,
    store: Path,
    config: RegisterConfig,
    **losses: float,
) -> Registration:
    """Return what the node returns."""
    both = trained["serial"], trained["parallel"]
    return register(compared(trained, **losses), *both, BaseModel(base), LatentsStore(store), config)


def client(project: Path) -> Any:
    return open_client(tracking.EmbeddedStore("mobius", project / "mlruns"))


def fresh(project: Path, code: str, *words: str) -> str:
    """Run Python in a new process outside of the project, which has only the address of its MLflow store."""
    clean = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**clean, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlruns/mlflow.db"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PREDICT = """
import json, sys
import mlflow
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@champion")
videos = model.predict(sys.argv[2:])
again = model.predict(sys.argv[2:], params={"seed": 8})
import mobius_pipeline
open("/dev/stdout", "w").write(json.dumps({
    "videos": [video.hex() for video in videos],
    "again": [video.hex() for video in again],
    "code": mobius_pipeline.__file__,
    "modules": sorted(name for name in sys.modules if name.startswith("mobius_pipeline.")),
}))
"""


def test_the_champion_samples_in_a_fresh_process(
    trained: Trained, tiny_base: Path, tiny_store: Path, project: Path, config: RegisterConfig
) -> None:
    done = registered(trained, tiny_base, tiny_store, config, serial=0.3, parallel=0.2)
    assert (done.version, done.column, done.champion_moved) == ("1", "parallel", True)
    tracking.reset()
    found = json.loads(fresh(project, PREDICT, config.name, *PROMPTS))
    videos = [bytes.fromhex(video) for video in found["videos"]]
    assert len(videos) == 2
    assert videos[0] != videos[1]
    assert found["again"][0] != found["videos"][0]
    file = project / "video.mp4"
    file.write_bytes(videos[0])
    assert load_clip(file, tiny.CLIP).shape == (4, 16, 16, 3)
    assert found["code"].startswith(str(project / "mlruns"))  # the code of the model, not of this repository
    assert lacking(imported(found["modules"])) == set()


def imported(modules: list[str]) -> set[str]:
    """Return the top-level names that modules of the package import."""
    found: set[str] = set()
    for name in modules:
        origin = find_spec(name).origin
        for node in ast.walk(ast.parse(Path(origin).read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - {"mobius_pipeline"}


def lacking(modules: set[str]) -> set[str]:
    """Return the distributions of modules that the requirements do not install, even indirectly."""
    brought, waiting = set(), [Requirement(name) for name in REQUIREMENTS]
    while waiting:
        one = waiting.pop()
        name = one.name.lower().replace("_", "-")
        if name in brought or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        brought.add(name)
        waiting += [Requirement(text) for text in installed_requirements(one.name)]
    of = packages_distributions()
    needed = {name.lower().replace("_", "-") for module in modules for name in of.get(module, [])[:1]}
    return needed - brought - {"mobius-pipeline", "setuptools", "pip"}


def installed_requirements(name: str) -> list[str]:
    from importlib.metadata import PackageNotFoundError

    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []  # for another platform


def test_a_version_has_a_card_a_signature_an_example_and_its_run(
    trained: Trained, tiny_base: Path, tiny_store: Path, project: Path, config: RegisterConfig
) -> None:
    from mlflow.models import Model

    registered(trained, tiny_base, tiny_store, config, serial=0.2, parallel=0.3)
    mlflow = client(project)
    version = mlflow.get_model_version_by_alias(config.name, "champion")
    assert version.run_id == trained["serial"].metrics.run_id
    for said in (
        "# serial",
        "Held-out loss 0.2000",
        "licence: Apache-2.0",
        "peak memory",
        "For comparison, parallel",
    ):
        assert said in version.description, said
    (model,) = mlflow.search_logged_models(["1"], filter_string=f"name = '{config.name}'")
    assert model.source_run_id == version.run_id
    folder = Path(model.artifact_location.removeprefix("file://"))
    described = Model.load(folder)
    assert described.signature.inputs.to_dict()[0]["type"] == "string"
    assert {one.name for one in described.signature.params} == {"seed", "steps", "guidance_scale"}
    assert described.saved_input_example_info is not None
    assert (folder / "artifacts/MODEL_CARD.md").read_text() == version.description
    assert "torch==" in (folder / "requirements.txt").read_text()
    assert not (folder / "artifacts/trained/weights.safetensors").exists()
    assert not list(folder.rglob("__pycache__"))


def test_a_training_is_one_version_and_the_champion_is_replaced_by_the_rule_alone(
    trained: Trained, tiny_base: Path, tiny_store: Path, project: Path, config: RegisterConfig
) -> None:
    first = registered(trained, tiny_base, tiny_store, config, serial=0.2, parallel=0.3)
    again = registered(trained, tiny_base, tiny_store, config, serial=0.2, parallel=0.3)
    assert (again.version, again.champion_moved, again.why) == ("1", False, "it is the champion")
    worse = registered(trained, tiny_base, tiny_store, config, serial=0.5, parallel=0.4)
    assert (worse.version, worse.champion, worse.champion_moved) == ("2", "1", False)
    assert "0.4000 against 0.2000" in worse.why
    mlflow = client(project)
    aliases = mlflow.get_registered_model(config.name).aliases.items()
    assert {alias: str(version) for alias, version in aliases} == {
        "candidate": "2",
        "champion": first.version,
    }
    assert len(mlflow.search_model_versions(f"name = '{config.name}'")) == 2


def test_weights_that_are_not_here_and_versions_by_other_means_are_refused(
    trained: Trained, tiny_base: Path, tiny_store: Path, project: Path, config: RegisterConfig
) -> None:
    other = changed(compared(trained, serial=0.1), "columns", "serial", run_ids=["gone"])
    with pytest.raises(MobiusError, match=r"prefers 'serial' \(runs gone\)"):
        register(
            other,
            trained["serial"],
            trained["parallel"],
            BaseModel(tiny_base),
            LatentsStore(tiny_store),
            config,
        )
    mlflow = client(project)
    mlflow.create_registered_model(config.name)
    mlflow.create_model_version(config.name, "file:///elsewhere")
    mlflow.set_registered_model_alias(config.name, "champion", "1")
    with pytest.raises(MobiusError, match="lacks the tags heldout_loss, data"):
        registered(trained, tiny_base, tiny_store, config)
    tracking.reset()
    with pytest.raises(MobiusError, match="there is no registry"):
        registered(trained, tiny_base, tiny_store, config)


def test_a_model_without_its_base_wants_that_base(
    trained: Trained,
    tiny_base: Path,
    tiny_store: Path,
    config: RegisterConfig,
    tmp_path: Path,
) -> None:
    import mlflow

    shared = copied(tiny_base, tmp_path / "shared")
    without = config.model_copy(update={"include_base": False})
    uri = registered(trained, shared, tiny_store, without).uri
    logged = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "logged")))
    assert {path.name for path in (logged / "artifacts").iterdir()} == {"trained", CARD}
    fingerprint = BaseModel(shared).digest[:20]
    with pytest.raises(MobiusError, match=f"contains no base.*begins with {fingerprint}"):
        mlflow.pyfunc.load_model(uri, model_config={"base": None})
    assert len(mlflow.pyfunc.load_model(uri).predict(PROMPTS)) == 2
    other = copied(shared, tmp_path / "other")
    (other / "README.md").write_text("another")
    with pytest.raises(MobiusError, match="was trained on another base model"):
        mlflow.pyfunc.load_model(uri, model_config={"base": str(other)})
    shutil.rmtree(shared)
    with pytest.raises(Exception, match="shared"):
        mlflow.pyfunc.load_model(uri)
    assert len(mlflow.pyfunc.load_model(uri, model_config={"base": str(tiny_base)}).predict(PROMPTS)) == 2


@contextmanager
def served(project: Path, name: str) -> Iterator[str]:
    """Serve the champion with `mlflow models serve`; yield the address."""
    port = free_port(5900)
    words = ["-m", "mlflow", "models", "serve", f"--model-uri=models:/{name}@champion", "--env-manager=local"]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment = {**clean, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlruns/mlflow.db"}
    with running_server(
        [sys.executable, *words, "--host=127.0.0.1", f"--port={port}"], environment
    ) as server:
        from mobius_pipeline.tracking.ui import wait_until_up

        wait_until_up(server, port)
        yield f"http://127.0.0.1:{port}"


def test_a_request_to_the_served_champion_gets_videos(
    trained: Trained, tiny_base: Path, tiny_store: Path, project: Path, config: RegisterConfig
) -> None:
    registered(trained, tiny_base, tiny_store, config)
    tracking.reset()
    with served(project, config.name) as address:
        asked = json.dumps({"inputs": PROMPTS, "params": {"steps": 1}}).encode()
        request = urllib.request.Request(
            f"{address}/invocations", asked, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            predictions = json.load(answer)["predictions"]
    file = project / "video.mp4"
    file.write_bytes(base64.b64decode(predictions[1]))
    assert len(predictions) == 2
    assert load_clip(file, tiny.CLIP).shape == (4, 16, 16, 3)


@pytest.mark.parametrize(
    ("readme", "stated", "found"),
    [
        ("---\nlicense: creativeml-openrail-m\ntags: [a]\n---\n# Model", None, "creativeml-openrail-m"),
        ("---\nlicense: other\n---\n", "MIT", "MIT"),
        ("license: apache-2.0 is what I would like\n", None, UNKNOWN),
        (None, None, UNKNOWN),
    ],
)
def test_the_bases_licence_is_read_or_said_to_be_unknown(
    tmp_path: Path, readme: str | None, stated: str | None, found: str
) -> None:
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    assert licence_of(tmp_path, stated) == found
