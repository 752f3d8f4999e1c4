"""Submitting for real: the command in a process of its own, a server that looks at what it gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.kubeflow_server import kubeflow_server
from tests.ports import free_port
from tspin.config import RunConfig

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SECRET = "a-token-that-nobody-prints"


def _submit(
    tmp_path: Path, host: str | None, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tspin", "pipeline", "submit"]
    command += ["--config", "configs/demo.yaml", "--profile", "cpu", "--every", "0.05"]
    command += ["--set", "iterations=1"]
    command += [] if host is None else ["--host", host]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KFP_")}
    done = warm.run(
        [*command, *options],
        cwd=ROOT,
        env={**kept, "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_run_is_submitted_and_waited_for(tmp_path: Path) -> None:
    with kubeflow_server(token=SECRET, unavailable=2) as server:
        done = _submit(
            tmp_path,
            server.url,
            *("--wait", "--name", "mine", "--no-cache", "--pipeline-root", "s3://bucket/runs"),
            KFP_TOKEN=SECRET,
        )
    assert done.returncode == 0, done.stderr
    assert "train: running\n" in done.stdout
    assert "train: succeeded\nreport: succeeded\n" in done.stdout
    assert "run r-1 succeeded" in done.stdout
    (sent,) = server.runs
    assert (sent["display_name"], sent["experiment_id"]) == ("mine", "e-1")
    assert sent["service_account"] == "tspin-pipeline"
    assert sent["runtime_config"]["pipeline_root"] == "s3://bucket/runs"
    spec = sent["pipeline_spec"]
    tasks = spec["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {"check-inputs", "first-iteration", "finish"} <= set(tasks)
    assert not any(t.get("cachingOptions", {}).get("enableCache") for t in tasks.values())
    assert spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    config = spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]["config"]
    assert RunConfig.model_validate_json(config["defaultValue"]).iterations == 1
    assert list(server.experiments) == ["tspin"]


def test_a_failed_run_is_exit_code_1(tmp_path: Path) -> None:
    states = [("RUNNING", {"train": "RUNNING"}), ("FAILED", {"train": "FAILED"})]
    with kubeflow_server(states=states) as server:
        done = _submit(tmp_path, server.url, "--wait")
    assert done.returncode == 1
    assert "train: failed" in done.stdout
    assert "run r-1 failed: the step train failed" in done.stderr


def test_a_run_that_takes_too_long_is_left_alone(tmp_path: Path) -> None:
    with kubeflow_server(states=[("RUNNING", {})]) as server:
        done = _submit(tmp_path, server.url, "--wait", "--timeout", "0.2")
    assert done.returncode == 1
    assert "it goes on" in done.stderr


def test_a_recurring_run_is_registered(tmp_path: Path) -> None:
    with kubeflow_server() as server:
        done = _submit(tmp_path, server.url, "--cron", "0 0 2 * * 6")
    assert done.returncode == 0, done.stderr
    (sent,) = server.recurring
    assert sent["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * 6"}}
    assert sent["mode"] == "ENABLE"
    assert server.runs == []


def test_the_token_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    with kubeflow_server(token=SECRET) as server:
        assert _submit(tmp_path, server.url, "--token-file", str(file)).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cron", "0 2 * * 6"], "5 fields; expected six"),
        (["--wait", "--cron", "0 0 2 * * 6"], "--wait cannot be given with --cron"),
        (["--profile", "gke-h10"], "did you mean 'gke-h100'"),
        (["--pipeline", "runs"], "unknown pipeline 'runs'"),
        (["--pipeline-root", "bucket/runs"], "expected s3://, gs:// or minio://"),
        (["--set", "train.betta=0.1"], "did you mean 'beta'"),
        (["--token-file", "/no/such/file"], "/no/such/file: no such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    tmp_path: Path, options: list[str], message: str
) -> None:
    with kubeflow_server() as server:
        done = _submit(tmp_path, server.url, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (server.experiments or server.runs or server.recurring)


def test_no_host_is_said(tmp_path: Path) -> None:
    done = _submit(tmp_path, None)
    assert done.returncode == 2
    assert "KFP_HOST" in done.stderr


@pytest.mark.parametrize("token", ["wrong", None])
def test_a_wrong_token_is_said_with_what_makes_a_right_one(
    tmp_path: Path, token: str | None
) -> None:
    environment = {} if token is None else {"KFP_TOKEN": token}
    with kubeflow_server(token=SECRET) as server:
        done = _submit(tmp_path, server.url, **environment)
    assert done.returncode == 1
    assert "does not accept the token (401)" in done.stderr
    assert ("it may be old" if token else "set KFP_TOKEN") in done.stderr
    command = "kubectl -n tspin create token tspin-submit --audience pipelines.kubeflow.org"
    assert f"--token-command '{command}'" in done.stderr


def _printer(folder: Path, tokens: list[str]) -> str:
    """A command that prints the tokens, one each time; the last one again and again."""
    script, counter = folder / "print.py", folder / "asked"
    script.write_text(
        "import pathlib\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "asked = len(counter.read_bytes()) if counter.exists() else 0\n"
        "counter.write_bytes(b'x' * (asked + 1))\n"
        f"print({tokens!r}[min(asked, {len(tokens) - 1})])\n"
    )
    return f"{sys.executable} {script}"


def _asked(folder: Path) -> int:
    return len((folder / "asked").read_bytes())


RUNNING = ("RUNNING", {"train": "RUNNING"})
LONG = [*[RUNNING] * 5, ("SUCCEEDED", {"train": "SUCCEEDED"})]


def test_a_token_that_is_no_longer_accepted_while_waiting_is_asked_for_again(
    tmp_path: Path,
) -> None:
    """One that does not say when it ends."""
    tokens = ["first-token", "second-token", "third-token"]
    with kubeflow_server(token=tokens[0], later=tokens[1:], lifetime=2, states=LONG) as server:
        command = _printer(tmp_path, tokens)
        done = _submit(tmp_path, server.url, "--wait", KFP_TOKEN_COMMAND=command)
    assert done.returncode == 0, done.stderr
    assert "asking again: " in done.stdout
    assert _asked(tmp_path) == 3
    assert not any(token in done.stdout + done.stderr for token in tokens)


def test_a_server_that_refuses_the_pipeline_is_quoted(tmp_path: Path) -> None:
    with kubeflow_server(refusal="invalid spec: no such field") as server:
        done = _submit(tmp_path, server.url)
    assert done.returncode == 2
    assert "refused (400): invalid spec: no such field" in done.stderr


def test_an_unreachable_server_is_said(tmp_path: Path) -> None:
    done = _submit(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
