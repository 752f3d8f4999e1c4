"""A training in a TrainJob tells the status server how far it is, by HTTPS and with its token."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from training_runs import make_job, write_triplets
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import KubeflowCallback

import tspin.train.log
from tspin.records.manifest import content_hash, manifest_path
from tspin.records.training_log import read_train_log
from tspin.train.step import run_job

pytestmark = pytest.mark.integration

TOKEN = "token-of-the-pod"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the server was told; the environment is that of a TrainJob's pod."""
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    found: list[dict[str, Any]] = []

    class Status(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            found.append(json.loads(content)["trainerStatus"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Status)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"https://localhost:{server.server_port}/x")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(certificate))
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
    monkeypatch.setattr(KubeflowCallback, "_MIN_UPDATE_INTERVAL", 0.0)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def test_progress_metrics_and_time_left_are_told(
    tmp_path: Path,
    tiny_model_dir: Path,
    told: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_triplets(tmp_path / "triplets.jsonl")
    job = make_job(tmp_path, tiny_model_dir, "told")
    run_job(job)
    # Of 6 steps; a step that follows its own row has the values of that row.
    assert [status["progressPercentage"] for status in told] == [0, 16, 33, 50, 66, 83, 99, 100]
    assert told[-1]["estimatedRemainingSeconds"] == 0
    last = {metric["name"]: metric["value"] for metric in told[-1]["metrics"]}
    row = read_train_log(job.out.parent / "train_log.jsonl")[-1]
    assert float(last["loss"]) == pytest.approx(row["loss"])
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL")
    plain = make_job(tmp_path, tiny_model_dir, "plain")
    run_job(plain)
    assert len(told) == 8
    assert content_hash(job.out) == content_hash(plain.out)
    assert manifest_path(job.out).read_bytes() == manifest_path(plain.out).read_bytes()


def test_the_time_left_of_a_continued_training_is_that_of_its_own_steps(
    tmp_path: Path,
    told: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    callback = tspin.train.log._Kubeflow()
    args, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    state = TrainerState(global_step=900, max_steps=1000)
    callback.on_train_begin(args, state, control)
    for _ in range(2):
        clock[0] += 10
        state.global_step += 1
        callback.on_step_end(args, state, control)
    # 98 steps of 10 seconds; but for rounding, as the callback truncates.
    assert told[-1]["estimatedRemainingSeconds"] == pytest.approx(980, abs=1)


def test_a_tracker_that_fails_is_left_out_and_the_training_goes_on(
    tmp_path: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(TrainerCallback):
        calls = 0

        def on_log(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            Broken.calls += 1
            raise ConnectionError("https://me:secret-of-mine@tracker.test is away")

    known = tspin.train.log.INTEGRATION_TO_CALLBACK
    monkeypatch.setitem(known, "broken", Broken)
    write_triplets(tmp_path / "triplets.jsonl")
    job = make_job(tmp_path, tiny_model_dir, system={"report_to": ["broken"]})
    run_job(job)
    assert job.out.is_dir()
    assert Broken.calls == 1
    (line,) = [text for text in caplog.messages if text.startswith("broken failed")]
    assert "goes on" in line
    assert "secret-of-mine" not in line
