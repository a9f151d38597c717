"""No secret is shown: in text, command lines, logs, errors, and all that a run records."""

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mobius_pipeline.runtime.daft_runner import EngineConfig, use_engine
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from mobius_pipeline.runtime.redaction import command_line, guard_logs, redacted
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.run import Input

SECRETS = (
    "hunter2",
    "s3cr/et+",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI",
    "hf_abcdefghijklmnopqrstuv",
    "MyT0k3n",
)
TEXTS = (
    "ray://user:hunter2@head:10001",
    "ray://user:s3cr/et+hunter2@x@head:10001",
    "ray://hf_abcdefghijklmnopqrstuv@head:10001",
    "user:hunter2@head:6379",
    "--params engine.address=user:hunter2@head:6379",
    "{'address': 'user:hunter2@head:6379'}",
    "s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY@bucket/key",
    "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "https://b.s3.amazonaws.com/x?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&X-Amz-Signature=hunter2",
    "https://host/x?key=MyT0k3n#part",
    "db.password=hunter2",
    'MLFLOW_TRACKING_PASSWORD="hunter2 MyT0k3n"',
    "{'api_key': 'hunter2', 'aws_secret_access_key': 'wJalrXUtnFEMI/K7'}",
    "mobius plan --hub-token MyT0k3n",
    "Authorization: Bearer MyT0k3n",
    "cannot clone https://MyT0k3n@github.com/me/mine.git",
)
HARMLESS = (
    "Running stage 'train@serial':",
    "Loading data from raw_clips@source (FolderDataset)",
    "sqlite:////data/me@work/my project/mlruns/mlflow.db",
    "file:///data/me@work/mlruns/artifacts",
    "http://127.0.0.1:5000/#/experiments/1/runs/abc",
    "text_tokens: 77, tokenizer: clip.json, pass: 1.5 s",
    "a red ring: it moves @ 8 fps",
    "train.steps is 300 and was 8; data/.work/1f0c/parallel/job.json",
)


@pytest.mark.parametrize("text", TEXTS)
def test_secrets_are_left_out(text: str) -> None:
    assert [secret for secret in SECRETS if secret in redacted(text)] == []
    assert "…" in redacted(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["/opt/x y/bin/kedro", "run", "--params=a.b=hunter2,c=1", "--env=emoji"],
            "kedro run '--params=a.b=…,c=…' --env=emoji",
        ),
        (["kedro", "run", "--params", "a=MyT0k3n,hunter2", "-v"], "kedro run --params a=… -v"),
        (["kedro", "run", "--conf-source=https://u:hunter2@h/c"], "kedro run --conf-source=https://…@h/c"),
        (["kedro"], "kedro"),
    ],
)
def test_a_command_line_has_names_without_values(words: list[str], shown: str) -> None:
    assert command_line(words).replace("'", "") == shown.replace("'", "")


@pytest.fixture
def guarded() -> Any:
    before = logging.getLogRecordFactory()
    guard_logs()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("guarded")
def test_logs_of_any_library_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("some.library")
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    try:
        logger.warning("connecting to %s", TEXTS[0])
        try:
            raise OSError(f"no route to {TEXTS[0]}")
        except OSError:
            logger.exception("failed")
        logger.warning("%d of %s", 3, "four")
    finally:
        logger.removeHandler(handler)
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert "connecting to ray://…@head:10001" in out
    assert "OSError: no route to ray://…@head:10001" in out
    assert "3 of four" in out


def test_an_error_names_the_key_and_not_its_value() -> None:
    with pytest.raises(ValidationError) as wrong:
        EngineConfig.model_validate(
            {"name": "native", "address": "ray://u:hunter2@a-long-name-of-a-head:10001"}
        )
    assert "engine.address needs engine.name: ray" in str(wrong.value)
    assert "hunter2" not in str(wrong.value)
    assert "head" not in str(wrong.value)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("address", ["ray://user:hunter2@127.0.0.1:1", "user:hunter2@nowhere"])
@pytest.mark.ray
def test_an_address_that_ray_cannot_use_is_an_error_without_its_password(address: str) -> None:
    with pytest.raises(MobiusError, match=r"engine\.address") as failed:
        use_engine(EngineConfig(name="ray", address=address))
    assert "hunter2" not in str(failed.value)


def test_plain_words_hold_no_secret() -> None:
    assert in_plain_words(MobiusError(f"Nothing at {TEXTS[0]}.")) == "Nothing at ray://…@head:10001."


def test_a_traceback_holds_no_secret() -> None:
    code = f"import mobius_pipeline.hooks\nraise RuntimeError('no answer of ' + {TEXTS[0]!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no answer of ray://…@head:10001" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.usefixtures("guarded")
def test_nothing_that_a_run_records_holds_a_secret(
    tracked_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    git = ["git", "-C", str(tracked_project), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://me:hunter2@example.org/x.git"], check=True)
    main = tracked_project / "bin/kedro"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setattr(
        sys, "argv", [str(main), "run", "--params", f"a.token=MyT0k3n,engine.address={TEXTS[6]}"]
    )
    params = {"rendezvous": {"endpoint": TEXTS[3]}, "prompts": [TEXTS[0]], "steps": 3}
    inputs = {"latents": Input("ab", TEXTS[6])}
    with tracking.training_run("serial", params=params, tags={"note": TEXTS[0]}, inputs=inputs) as run:
        run.log_metrics({"loss": float("nan")}, 1)
        run.log_checkpoint("serial-1", 1, tracked_project)
        run.describe(f"Trained at {TEXTS[0]}.")
        logging.getLogger("mobius_pipeline").warning("at %s", TEXTS[0])
    kept = [path for path in (tracked_project / "mlruns").rglob("*") if path.is_file()]
    assert tracked_project / "mlruns/mlflow.db" in kept
    for path in kept:
        content = path.read_bytes()
        assert [secret for secret in SECRETS if secret.encode() in content] == [], path
    assert "hunter2" not in caplog.text
    rows = (
        sqlite3.connect(tracked_project / "mlruns/mlflow.db")
        .execute("SELECT key, value FROM tags")
        .fetchall()
    )
    assert ("mlflow.source.name", "kedro run --params a.token=…,engine.address=…") in [
        (key, value.replace("'", "")) for key, value in rows
    ]
