"""The console script: the table of the summary, and the checks before the server starts."""

import os
import socket
import sys
import threading
from pathlib import Path

import pytest

import comparison_example
from mobius_pipeline import cli
from mobius_pipeline.comparison import summary
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking import ui


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data/08_reporting"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(comparison_example.comparison().model_dump_json())
    return tmp_path / "data"


def test_the_summary_shows_both_modes_and_what_to_open(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["summary", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in out.splitlines() if "│" in line}
    assert [cell.strip() for cell in rows["serial"]] == [
        "2.08 GiB",
        "412 ms",
        *["0.2214"] * 3,
        "72%",
        "4.21 M",
    ]
    changes = [cell.strip().replace(summary.MINUS, "-") for cell in rows["parallel vs serial"]]
    assert changes == ["-40.9%", "-30.3%", *["+1.2%"] * 3, "-4.2%", "0.0%"]
    assert [cell.strip() for cell in rows["base, untrained"]] == ["", "", *["0.2612"] * 3, "", ""]
    assert "Recommended: serial if 2.08 GiB are available, otherwise parallel." in " ".join(out.split())
    assert str(data / "08_reporting/comparison.html") in out
    assert str(data / "07_model_output/serial") in out
    assert out.splitlines()[-1].endswith("make ui")


def test_the_summary_as_markdown_is_one_table_and_the_verdict(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["summary", "--markdown", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert table[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert {len(line.split(" | ")) for line in table[2:]} == {5}
    assert "| Loss, equal compute | 0.2612 | 0.2214 |" in out
    assert "Recommended: serial if 2.08 GiB are available, otherwise parallel." in out
    assert str(data) not in out


def test_the_table_fits_a_hundred_columns(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["summary", "--data", str(data)])
    table = [line for line in capsys.readouterr().out.splitlines() if set("│┃┏└├┡") & set(line)]
    assert max(map(len, table)) <= 100
    assert "…" not in "".join(table)


def test_without_a_comparison_the_summary_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["summary", "--data", str(tmp_path)]) == 1
    assert "make demo" in capsys.readouterr().err


def test_the_ui_wants_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ui"]) == 1
    assert "in the project's folder" in capsys.readouterr().err


def test_the_ui_wants_recorded_runs(tmp_path: Path) -> None:
    (tmp_path / "conf/base").mkdir(parents=True)
    (tmp_path / "conf/base/tracking.yml").write_text("experiment: mobius\nfolder: mlruns\n")
    with pytest.raises(MobiusError, match="Nothing was recorded yet"):
        ui.recorded_store(tmp_path)
    assert not (tmp_path / "mlruns").exists()


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((tracking.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui.free_port(port) > port


def test_the_server_answers_this_machine_only_and_unpickles_nothing(tmp_path: Path) -> None:
    words = ui.ui_command(tracking.EmbeddedStore("mobius", tmp_path), 5001)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--allowed-hosts") + 1] == "localhost:5001,127.0.0.1:5001"
    assert ui.ui_environment()["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert ui.ui_environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_an_answer_that_is_no_http_is_not_the_server_yet() -> None:
    """A socket to a port without a listener may connect to itself, and read its own request."""
    left = [b"GET /health HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    with socket.socket() as listening:
        listening.bind((tracking.HOST, 0))
        listening.listen()

        def answer() -> None:
            while left:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(left.pop(0))

        thread = threading.Thread(target=answer)
        thread.start()
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        with ui.running_server(command, dict(os.environ)) as server:
            ui.wait_until_up(server, listening.getsockname()[1])
        thread.join(timeout=10)
    assert not left


def test_a_server_that_ends_at_once_is_an_error_and_leaves_nothing() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        pytest.raises(MobiusError, match="status 3"),
        ui.running_server(command, dict(os.environ)) as server,
    ):
        ui.wait_until_up(server, 1)
    assert server.poll() == 3
