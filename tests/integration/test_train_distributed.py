"""Training in two processes (gloo on the CPU), started as the command line starts them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close
from training_runs import finish, make_job, start, wait_for, write_triplets

from tests import warm
from tspin.errors import InputError, TspinError
from tspin.processes.launch import check_world, processes_wanted
from tspin.records.seconds import read_seconds
from tspin.records.training_log import read_train_log
from tspin.train.job import TrainJob
from tspin.train.step import run_job, train

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process starts is forked."""
    monkeypatch.setattr(sys, "executable", warm.python())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("distributed")
    write_triplets(made / "triplets.jsonl")
    return made


def run_train(job: TrainJob) -> None:
    train(
        **{
            name: getattr(job, name)
            for name in TrainJob.model_fields
            if name not in ("mirror", "began")
        }
    )


@pytest.mark.parametrize("method", ["tspin_ref", "sdft"])
def test_two_processes_are_one(folder: Path, tiny_model_dir: Path, method: str) -> None:
    # 11 triplets, 4 a step, 1 a forward pass: in the last step one process gets 2, the other 1.
    # The reference policy's pass is shared out too.
    settings = {"method": method, "epochs": 1, "prompt": {"max_length": 160}}
    two = {"num_processes": 2, "tokens_per_device": 1}
    shared = make_job(folder, tiny_model_dir, f"{method}-two", system=two, **settings)
    run_train(shared)
    plenty = {"tokens_per_device": 2000}
    alone = make_job(folder, tiny_model_dir, f"{method}-one", system=plenty, **settings)
    run_job(alone)
    logs = [read_train_log(job.out.parent / "train_log.jsonl") for job in (shared, alone)]
    assert len(logs[0]) == 3
    for ours, theirs in zip(*logs, strict=True):
        for row in (ours, theirs):  # The sign of a margin that is 0 but for rounding.
            for name in ("rewards/accuracies", "rewards/higher_but_less_likely"):
                row.pop(name, None)
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (shared, alone))
    for name, weight in ours.items():
        assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5)
    assert not shared.checkpoints.exists()
    seconds = [read_seconds(job.out) for job in (shared, alone)]
    for one in seconds:
        assert one is not None
        assert {"imports", "waiting", "tokenising", "loading"} <= one.before.keys()
        assert one.after["training"] > 0
    # The launch of the processes belongs to the step; a step that is only called has no imports.
    assert [one.before["imports"] > 0 for one in seconds if one] == [True, False]


def test_error_of_a_process_is_the_error(tmp_path: Path, tiny_model_dir: Path) -> None:
    same = write_triplets(tmp_path / "same.jsonl", annotated="So 46.", synthetic="So 46.")
    before = signal.getsignal(signal.SIGTERM)
    job = make_job(
        tmp_path, tiny_model_dir, triplets=same, method="spin", system={"num_processes": 2}
    )
    with pytest.raises(InputError, match=r"^the loss of method 'spin' cannot decrease"):
        run_train(job)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not job.out.exists()


def test_sigterm_reaches_the_processes(folder: Path, tiny_model_dir: Path) -> None:
    # By the clock after every step: both processes save the same one, or wait for each other.
    system = {"num_processes": 2, "checkpoint_steps": 500, "checkpoint_minutes": 1e-9}
    job = make_job(folder, tiny_model_dir, "stopped", epochs=100, system=system)
    log = job.out.parent / "train_log.jsonl"
    process = start(job)
    wait_for(process, lambda: any(job.checkpoints.glob("checkpoint-*/complete.json")))
    process.send_signal(signal.SIGTERM)
    printed = finish(process)
    assert process.returncode == 143, printed
    steps = len(read_train_log(log))
    assert 1 <= steps < 300
    assert (job.checkpoints / f"checkpoint-{steps}" / "complete.json").is_file()


def test_smaller_world_than_asked(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, tiny_model_dir, system={"num_processes": 2})
    assert processes_wanted(job.config.system) == 2
    monkeypatch.setenv("WORLD_SIZE", "1")  # what torchrun --nproc-per-node 1 sets
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(TspinError, match="asks for 2 training processes on this node, but 1 "):
        run_train(job)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_world(job.config.system)
