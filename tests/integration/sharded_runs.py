"""Trainings in several processes that have one group, one after the other: what tests compare."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
import torch.distributed
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import tspin.train.process as training
from tests import warm
from tests.training_peak import resident
from tspin.train.arguments import TSPINConfig
from tspin.train.job import TrainJob
from tspin.train.step import run_job


class KilledError(Exception):
    """Stands for the end of a process in the middle of a training."""


class _Observer(TrainerCallback):
    """Notes what a process holds of the weights, and ends a training that is to be cut short."""

    def __init__(self, path: Path, kill_at: int | None) -> None:
        self._path, self._kill_at = path, kill_at

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        parameters = list(given["model"].parameters())
        held = {
            "all": sum(parameter.numel() for parameter in parameters),
            "here": sum(
                (p.to_local() if isinstance(p, DTensor) else p).numel() for p in parameters
            ),
            "sharded": sum(isinstance(p, DTensor) for p in parameters),
            "tensors": len(parameters),
        }
        self._path.write_text(json.dumps(held))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step == self._kill_at:
            raise KilledError


def train_all(processes: int, jobs: list[TrainJob], **options: Any) -> None:
    """Train one job after the other in so many processes.

    Args:
        processes: How many, on one node unless `local` says otherwise.
        jobs: The trainings.
        options: `kill_at`, the step after which all processes drop every training;
            `exchange`, see `TSPINConfig`; `local`, processes a node; `available`, bytes of memory.
    """
    rendezvous = jobs[0].out.parents[1] / f"rendezvous-{uuid4().hex}"
    written = json.dumps([job.model_dump(mode="json") for job in jobs])
    asked = json.dumps(options | {"rendezvous": rendezvous.as_uri()})
    warm.spawn(_one_of_them, str(processes), written, asked, processes=processes)


def held(job: TrainJob, rank: int) -> dict[str, int]:
    """What a process held of the weights in training."""
    found: dict[str, int] = json.loads((job.out.parent / f"held-{rank}.json").read_text())
    return found


def risen(job: TrainJob, rank: int) -> int:
    """Bytes by which a process's resident memory rose in a training, at most."""
    found: int = json.loads((job.out.parent / f"risen-{rank}.json").read_text())
    return found


def _one_of_them(rank: int, processes: str, jobs: str, options: str) -> None:
    asked = json.loads(options)
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "RANK": str(rank),
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": str(asked.get("local", processes)),
        "LOCAL_RANK": str(rank % int(asked.get("local", processes))),
    }
    torch.distributed.init_process_group(
        "gloo", init_method=asked["rendezvous"], rank=rank, world_size=int(processes)
    )
    for job in map(TrainJob.model_validate, json.loads(jobs)):
        gc.collect()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # Forget the highest mark so far.
        with observed(job, rank, asked):
            run_job(job)
        risen = resident("VmHWM") - before
        (job.out.parent / f"risen-{rank}.json").write_text(json.dumps(risen))


@contextmanager
def observed(job: TrainJob, rank: int, options: dict[str, Any]) -> Iterator[None]:
    """Let a training note what it holds, and end where it is told."""
    job.out.parent.mkdir(parents=True, exist_ok=True)
    observer = _Observer(job.out.parent / f"held-{rank}.json", options.get("kill_at"))
    with pytest.MonkeyPatch.context() as patched:
        own = training.TSPINTrainer

        def trainer(*args: Any, **kwargs: Any) -> Any:
            return own(*args, **kwargs, callbacks=[observer])

        patched.setattr(training, "TSPINTrainer", trainer)
        if "available" in options:
            there = options["available"]
            patched.setattr(training, "available_memory", lambda: (there, there))
        exchange = options.get("exchange")
        if exchange is not None:
            arguments = training.trainer_arguments

            def changed(job: TrainJob) -> TSPINConfig:
                args = arguments(job)
                args.exchange = exchange
                return args

            patched.setattr(training, "trainer_arguments", changed)
        try:
            yield
        except KilledError:
            assert options.get("kill_at") is not None
