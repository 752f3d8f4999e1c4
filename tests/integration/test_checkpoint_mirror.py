"""A training whose machine is gone continues on another one and ends with the same bytes."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from training_runs import finish, make_job, start, wait_for, write_triplets

from tests import warm
from tests.s3_server import s3_bucket
from tspin.checkpoints.mirror import CheckpointMirror
from tspin.store import open_store
from tspin.train.step import train

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def prefix() -> Iterator[str]:
    with s3_bucket() as uri:
        yield f"{uri}/checkpoints"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_moves_to_another_machine(
    tmp_path: Path,
    tiny_model_dir: Path,
    prefix: str,
    processes: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", warm.python())
    triplets = write_triplets(tmp_path / "triplets.jsonl")
    system = {"num_processes": processes, "shard": "on"}
    jobs = {
        name: make_job(
            tmp_path,
            tiny_model_dir,
            name,
            epochs=8,
            triplets=triplets,
            system=system | {"checkpoints": at},
        )
        for name, at in (("lost", prefix), ("moved", prefix), ("whole", str(tmp_path / "kept")))
    }
    store = open_store(prefix)
    process = start(jobs["lost"], held=True)  # It does not wait for its copies, which take longer.

    def copied() -> bool:
        keys = list(store.list())
        marks = {key.rpartition("/")[0] for key in keys if key.endswith("/complete-0")}
        return any(f"{mark}/complete-{processes - 1}" in keys for mark in marks)

    wait_for(process, copied)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    finish(process)
    psutil.wait_procs(workers)  # Killed with it.
    assert not jobs["lost"].out.exists()
    shutil.rmtree(jobs["lost"].out.parent)

    caplog.set_level(logging.INFO, "tspin")
    for name in ("moved", "whole"):
        job = jobs[name]
        train(job.config, model=job.model, triplets=triplets, iteration=job.iteration, out=job.out)
    said = caplog.text + capfd.readouterr().err  # The second is the processes' own.
    assert "training continues from the checkpoint of step" in said
    for file in ("model/model.safetensors", "train_log.jsonl"):
        moved, whole = (jobs[name].out.parent / file for name in ("moved", "whole"))
        assert moved.read_bytes() == whole.read_bytes(), file
    assert list(store.list()) == []
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_store_that_is_gone_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_bucket() as uri, monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        mirror = CheckpointMirror(f"{uri}/x")
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "state").write_bytes(b"1")
    with caplog.at_level(logging.WARNING, logger="tspin"):
        mirror.push(tmp_path / "checkpoint-2")
    assert "on this disk only" in caplog.text
