"""What the training tests share: small triplets, a configuration, training in another process."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import warm
from tspin.config import RunConfig
from tspin.records.records import AnnotatedRecord, Message, Triplet, write_records
from tspin.train.job import TrainJob

TRAIN = """
import sys
from tspin.errors import TspinError
from tspin.train.step import train
from tspin.train.job import TrainJob
job = TrainJob.model_validate_json(sys.argv[1])
try:
    asked = dict(job)
    del asked["mirror"], asked["began"]
    if job.config.system.checkpoints:
        asked["checkpoints"] = None
    train(**asked)
except TspinError as error:
    sys.exit(f"{type(error).__name__}: {error}" if error.exit_code < 3 else error.exit_code)
"""
"""What the command line does: train, and end with the error's message or its exit code."""


def asked_of(job: TrainJob) -> dict[str, Any]:
    """What `tspin.train.step.train` is asked for a job; the rest it finds by itself."""
    return {name: value for name, value in job if name not in ("mirror", "began")}


def write_sayings(folder: Path, **counts: int) -> None:
    """NAME.jsonl for each name: so many annotated records, with prompts such as `say 3`."""
    for name, count in counts.items():
        records = (
            AnnotatedRecord.model_validate(
                {"id": f"{name}-{i}", "prompt": f"say {i}", "response": f"{name} {i}"}
            )
            for i in range(count)
        )
        write_records(folder / f"{name}.jsonl", records)


def write_triplets(path: Path, count: int = 11, **same: str) -> Path:
    """Random triplets of a few words; `same` gives one text to all of a role."""
    words = [
        "apples",
        "cities",
        "answer",
        "Paris",
        "Athens",
        "12",
        "34",
        "46",
        "So",
        "the",
        "is",
        "a",
        "are",
    ]
    choose = random.Random(0)

    def text() -> str:
        return " ".join(choose.choice(words) for _ in range(choose.randint(2, 6)))

    def triplet(number: int) -> Triplet:
        roles = {role: text() for role in ("annotated", "synthetic", "proto_synthetic")}
        return Triplet(
            id=f"record-{number}", messages=[Message(role="user", content=text())], **roles | same
        )

    write_records(path, (triplet(number) for number in range(count)))
    return path


def make_job(folder: Path, model: Path, name: str = "made", **settings: Any) -> TrainJob:
    """A training of 11 triplets, 4 a step, 2 a forward pass, 2 epochs: 6 steps.

    `iteration` and `triplets` are the job's, `quantize` is `model.quantize`, `system` and `prompt`
    are sections, all else `train`.
    """
    sections = {
        "system": {
            "device": "cpu",
            "num_processes": 1,
            "tokens_per_device": 120,
            "checkpoint_steps": 2,
            **settings.pop("system", {}),
        },
        "prompt": {"max_length": 96, **settings.pop("prompt", {})},
    }
    iteration = settings.pop("iteration", 1)
    triplets = settings.pop("triplets", folder / "triplets.jsonl")
    seed = settings.pop("seed", 0)
    quantize = settings.pop("quantize", "none")
    train = {"learning_rate": 1e-3, "global_batch_size": 4, "epochs": 2, **settings}
    config = RunConfig.model_validate(
        {
            "run_dir": str(folder),
            "seed": seed,
            "model": {"path": str(model), "quantize": quantize},
            "data": {"annotated": str(folder / "annotated.jsonl")},
            "generate": {"max_new_tokens": 32},
            "train": train,
            **sections,
        }
    )
    out = folder / name / "model"
    return TrainJob(
        config=config,
        model=str(model),
        triplets=triplets,
        iteration=iteration,
        out=out,
        checkpoints=folder / name / "model.checkpoints",
    )


def start(job: TrainJob, threads: int = 1, *, held: bool = False) -> subprocess.Popen[str]:
    """`train` in a process of its own, which computes with so many threads by itself.

    Args:
        job: What is trained.
        threads: How many the process computes with.
        held: Stays before the fifth step, until it is killed.
    """
    code = ["-m", "tests.integration.held_training"] if held else ["-c", TRAIN]
    return warm.Popen(
        [sys.executable, *code, job.model_dump_json()],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if the process ends first."""
    with killed_on_error(process):
        while not condition():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.01)
                raise AssertionError(f"ended: {process.communicate()}")


def saved(checkpoints: Path, step: int) -> bool:
    """Whether there is a whole checkpoint of a step, or of a later one, which takes its place."""
    markers = checkpoints.glob("checkpoint-*/complete.json")
    return any(int(path.parent.name.partition("-")[2]) >= step for path in markers)


def finish(process: subprocess.Popen[str]) -> str:
    """Everything that a process printed until its end."""
    with killed_on_error(process):
        return process.communicate()[0]


@contextlib.contextmanager
def killed_on_error(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no process behind when the test is over, as after the time that every test has."""
    try:
        yield
    except BaseException:
        process.kill()
        raise


def write_apples(path: Path) -> Path:
    """41 annotated records with prompts of unlike lengths."""
    records = (
        AnnotatedRecord(
            id=f"record-{i}",
            messages=[Message(role="user", content=f"{i} apples and " * (i * 5 % 8))],
            response="The answer is 46.",
        )
        for i in range(41)
    )
    write_records(path, records)
    return path
