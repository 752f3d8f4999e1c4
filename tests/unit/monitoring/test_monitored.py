"""An endpoint that cannot be is refused before any work; where none is asked for, none costs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tspin.monitoring.monitored
from tspin.cli.main import app
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.monitoring.monitored import check_endpoint, monitored
from tspin.progress.status import NOTES, RUN_ID, run_id, where_failed


def config(port: int | None, run_dir: str = "runs/r") -> RunConfig:
    values: dict[str, Any] = {
        "run_dir": run_dir,
        "model": {"path": "m"},
        "data": {"annotated": "a.jsonl"},
        "system": {"metrics_port": port},
    }
    return RunConfig.model_validate(values)


def test_a_port_that_somebody_has_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} .*: Address already in use; another"):
            check_endpoint(config(port))
        with pytest.raises(InputError, match="0 for any that is free"), monitored(config(port)):
            pytest.fail("the work began")
    check_endpoint(config(port))


def test_without_the_library_it_is_said_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tspin.monitoring.monitored, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tspin\[metrics\]'"):
        check_endpoint(config(0))
    with pytest.raises(InputError, match="is not installed"), monitored(config(0)):
        pytest.fail("the work began")
    check_endpoint(config(None))


MODEL = ["--model", "m", "--out", "out"]


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["generate", *MODEL, "--annotated", "a.jsonl"],
        ["train", *MODEL, "--triplets", "t.jsonl"],
        ["evaluate", *MODEL, "--annotated", "a.jsonl"],
    ],
    ids=lambda command: command[0],
)
def test_commands_refuse_a_port_before_they_look_at_anything_else(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("run_dir: r\nmodel: {path: m}\ndata: {annotated: a.jsonl}\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = [*command, "--config", "run.yaml", "--set", f"system.metrics_port={port}"]
        error = CliRunner().invoke(app, asked).exception
    assert isinstance(error, InputError)
    assert f"port {port} for Prometheus is not to be had" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_of_the_processes_of_a_training_the_first_one_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    with monitored(config(1)):  # Which root alone may have.
        assert NOTES not in os.environ
    monkeypatch.setenv("RANK", "0")
    with monitored(config(0)):
        assert NOTES in os.environ


@pytest.mark.parametrize(
    ("run_dir", "name"), [("runs/a", "a"), ("s3://bucket/runs/b/", "b"), (".", Path.cwd().name)]
)
def test_a_run_is_called_as_its_folder(run_dir: str, name: str) -> None:
    with monitored(config(None, run_dir)):
        assert run_id() == name
    assert run_id() == ""


def test_a_name_that_was_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_ID, "kubeflow's")
    with monitored(config(None)):
        assert run_id() == "kubeflow's"
    assert run_id() == "kubeflow's"


def test_an_error_knows_the_run() -> None:
    error = ValueError("x")
    with pytest.raises(ValueError, match="x"), monitored(config(None)):
        raise error
    assert where_failed(error)["run"] == "r"


def test_where_no_port_is_set_the_library_is_not_imported() -> None:
    script = (
        "import sys, os\n"
        "from tspin.config import RunConfig\n"
        "from tspin.monitoring.monitored import monitored\n"
        "from tspin.cli.main import app\n"
        "config = RunConfig.model_validate_json(sys.argv[1])\n"
        "with monitored(config):\n"
        "    print('prometheus_client' in sys.modules, 'http.server' in sys.modules, end='')\n"
    )
    command = [sys.executable, "-c", script, config(None).model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False False"
