"""A training that was killed ends with the same bytes as one that never stopped."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_runs import finish, make_job, start, wait_for, write_triplets

from tspin.errors import TspinError
from tspin.records.training_log import read_train_log
from tspin.train.job import TrainJob
from tspin.train.step import run_job

pytestmark = [
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("resume")
    write_triplets(made / "triplets.jsonl")
    return made


@pytest.fixture
def spin_job(folder: Path, tiny_model_dir: Path) -> TrainJob:
    return make_job(folder, tiny_model_dir, "killed", method="spin")


@pytest.fixture
def blocked(spin_job: TrainJob) -> Iterator[subprocess.Popen[str]]:
    """A training that hangs half-way through writing its second checkpoint.

    Its weights and the optimiser's state go into a pipe that nobody reads.
    """
    torn = spin_job.checkpoints / "checkpoint-4"
    process = start(spin_job)
    # From then on the folder is cleared, and training has not begun.
    wait_for(process, (spin_job.checkpoints / "key.json").is_file)
    torn.mkdir()
    os.mkfifo(torn / "shard-00001-model-00001-of-00001.safetensors")
    log = spin_job.out.with_name("train_log.jsonl")
    wait_for(process, lambda: log.is_file() and len(read_train_log(log)) == 4)
    with process:
        yield process
        process.kill()


class Harmful:
    """A pickle that runs code when it is loaded."""

    ran = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Harmful, "ran", True)


def assert_same(job: TrainJob, other: TrainJob, steps: int) -> None:
    for name in ("model/model.safetensors", "train_log.jsonl", "model.manifest.json"):
        ours, theirs = job.out.parent / name, other.out.parent / name
        assert ours.read_bytes() == theirs.read_bytes(), name
    rows = read_train_log(job.out.parent / "train_log.jsonl")
    assert [row["step"] for row in rows] == [*range(1, steps + 1)]
    assert not job.checkpoints.exists()


def test_killed_while_writing_a_checkpoint(
    folder: Path,
    tiny_model_dir: Path,
    spin_job: TrainJob,
    blocked: subprocess.Popen[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(TspinError, match="another process is training into this folder"):
        run_job(spin_job)

    blocked.send_signal(signal.SIGKILL)
    finish(blocked)
    whole = spin_job.checkpoints / "checkpoint-2"
    assert (whole / "complete.json").is_file()
    assert not (spin_job.checkpoints / "checkpoint-4" / "complete.json").exists()
    assert not (whole / "training_args.bin").exists()
    assert not spin_job.out.exists()

    caplog.set_level("INFO", "tspin")
    # Where torch and transformers would unpickle something.
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", ".metadata"):
        (whole / name).write_bytes(pickle.dumps(Harmful(), protocol=2))
    run_job(spin_job)
    assert not Harmful.ran
    assert "training continues after step 2 of 6" in caplog.text
    assert "removing a checkpoint that is unfinished" in caplog.text
    assert "one pass of the reference policy" not in caplog.text  # kept beside the checkpoints
    uninterrupted = make_job(folder, tiny_model_dir, "whole", method="spin")
    run_job(uninterrupted)
    assert_same(spin_job, uninterrupted, steps=6)


def test_sigterm_saves_a_checkpoint_and_exits_with_143(folder: Path, tiny_model_dir: Path) -> None:
    settings = {"epochs": 40, "lora": {"r": 4, "dropout": 0.1}, "system": {"checkpoint_steps": 500}}
    job = make_job(folder, tiny_model_dir, "stopped", **settings)
    log = job.out.parent / "train_log.jsonl"
    process = start(job)
    wait_for(process, lambda: log.is_file() and log.stat().st_size > 0)
    process.send_signal(signal.SIGTERM)
    printed = finish(process)
    assert process.returncode == 143, printed
    steps = len(read_train_log(log))
    assert 1 <= steps < 120
    assert (job.checkpoints / f"checkpoint-{steps}" / "complete.json").is_file()

    run_job(job)
    uninterrupted = make_job(folder, tiny_model_dir, "uninterrupted", **settings)
    run_job(uninterrupted)
    for made in (job, uninterrupted):
        (made.out / "adapter_model.safetensors").rename(made.out / "model.safetensors")
    assert_same(job, uninterrupted, steps=120)
