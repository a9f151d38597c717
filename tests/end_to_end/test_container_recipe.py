"""Test the Dockerfile as far as possible without a builder; docs/containers.md describes a full test."""

import re
from pathlib import Path

from docker.utils import exclude_paths

from project import ROOT, run

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def context(root: Path) -> set[str]:
    """Return the files of the build context, by Docker's rules for .dockerignore."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [rule for rule in rules if rule and not rule.startswith("#")]
    return {path for path in exclude_paths(str(root), patterns) if (root / path).is_file()}


def test_hadolint_finds_nothing() -> None:
    run(ROOT, "hadolint", "Dockerfile")


def test_an_image_gets_the_package_and_its_configuration() -> None:
    places = [*(ROOT / "src/mobius_pipeline").rglob("*"), *(ROOT / "conf").glob("[!l]*/*.yml")]
    named = {path.relative_to(ROOT).as_posix() for path in places if path.is_file()} | {"conf/logging.yml"}
    files = {"LICENSE", "README.md", "pyproject.toml", "requirements.lock"}
    sent = context(ROOT) - {"Dockerfile", ".dockerignore"}  # which are always sent
    assert {name for name in named if "__pycache__" not in name} | files == sent - {"conf/local/.gitkeep"}


def test_an_image_gets_no_data_and_no_credentials(tmp_path: Path) -> None:
    secret = (
        "conf/local/credentials.yml",
        ".env",
        ".git/config",
        ".dvc/config.local",
        "data/a.mp4",
        "mlruns/b",
    )
    kept = ("conf/local/.gitkeep", "conf/base/catalog.yml", "src/mobius_pipeline/cli.py")
    for name in (*secret, *kept, "src/mobius_pipeline/__pycache__/cli.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert context(tmp_path) == set(kept)


def test_signals_reach_the_program() -> None:
    """The entry point uses no shell, and the user is not root."""
    assert 'ENTRYPOINT ["tini", "--"]\nCMD ["mobius-pipeline"]\n' in DOCKERFILE
    assert re.search(r"^USER \$\{UID\}$", DOCKERFILE, re.MULTILINE)
