"""Trainings by the library itself: triplets as text, jobs, and processes that say what they took.

`python -m benchmarks.gpu.trainings WATCHED` trains in one process, which `tspin.processes.launch`
may have started beside others.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.peak import Peak
from benchmarks.gpu.plan import Sizes
from benchmarks.gpu.request import Request
from benchmarks.training.lengths import PROFILES, TripletLengths
from benchmarks.training.models import words
from benchmarks.training.task import Task, TextTriplet
from tspin.config import RunConfig
from tspin.records.records import Message, Triplet, write_records
from tspin.train.job import TrainJob

__all__ = ["Watched", "lengths_of", "training_config", "training_job", "write_triplets"]

_MARGIN = 16
"""Tokens that the prompt template adds, and some."""


@dataclass(frozen=True)
class Watched:
    """A training, and what is to be known of it."""

    job: str
    """As JSON."""
    device: str
    report: str
    """Each process leaves `REPORT-RANK.json` there: peak, steps, speeds."""
    killed_at: int | None = None
    """The step after which the process kills itself by SIGKILL."""

    def as_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))


def lengths_of(sizes: Sizes, count: int) -> list[TripletLengths]:
    """Of so many triplets of the run's first profile."""
    return PROFILES[sizes.profiles[0]].make(count, 0)


def write_triplets(path: Path, request: Request, count: int) -> Path:
    """So many triplets of random words of the run's first profile, a token a word."""
    sizes = request.sizes
    # One step of all of them: the order is that of the lengths.
    task = Task(sizes.profiles[0], count, 1, sizes.model, str(request.model))
    write_records(path, (_record(number, one) for number, one in enumerate(task.triplets())))
    return path


def _record(number: int, triplet: TextTriplet) -> Triplet:
    annotated, synthetic, proto_synthetic = (words(ids[:-1]) for ids in triplet.responses)
    return Triplet(
        id=f"record-{number}",
        messages=[Message(role="user", content=words(triplet.prompt))],
        annotated=annotated,
        synthetic=synthetic,
        proto_synthetic=proto_synthetic,
    )


def training_config(
    request: Request, model: Path, max_length: int, **sections: Mapping[str, Any]
) -> RunConfig:
    """A run that trains on this device, in one process unless it says otherwise.

    Args:
        request: Device and precision.
        model: Its folder.
        max_length: Tokens of a prompt and a response together.
        sections: Of the run configuration, on top of what is here.
    """
    sizes = request.sizes
    values: dict[str, Any] = {
        "run_dir": request.folder,
        "iterations": 2,
        "model": {"path": str(model), "dtype": sizes.dtype},
        "data": {"annotated": "unused"},
        "prompt": {"template": "instruction", "max_length": max_length + _MARGIN},
        "generate": {"max_new_tokens": 1},
        "train": {"global_batch_size": sizes.batch, "epochs": 1, "learning_rate": 1e-6},
        "system": {"device": sizes.device, "num_processes": 1, "checkpoint_minutes": None},
    }
    for name, section in sections.items():
        values[name] = {**values[name], **section}
    return RunConfig.model_validate(values)


def training_job(config: RunConfig, triplets: Path, folder: Path) -> TrainJob:
    """The second iteration, whose loss has all three responses; the model is `folder`/model."""
    folder.mkdir(parents=True)
    out = folder / "model"
    return TrainJob(
        config=config,
        model=config.model.path,
        triplets=triplets,
        iteration=1,
        out=out,
        checkpoints=folder / "model.checkpoints",
    )


def _observer(watched: Watched, rank: int) -> Any:
    from transformers import TrainerCallback, TrainerState

    from tspin.records.training_log import SPEED

    peak = Peak(watched.device)

    class Observer(TrainerCallback):
        def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
            if state.global_step == watched.killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_train_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
            rows = [
                {name: value for name, value in row.items() if name.startswith(SPEED)}
                for row in state.log_history
                if "loss" in row
            ]
            report = {
                "allocated_bytes": peak.allocated,
                "reserved_bytes": peak.reserved,
                "steps": state.global_step,
                "speeds": rows,
            }
            Path(f"{watched.report}-{rank}.json").write_text(json.dumps(report))

    return Observer()


def main(arguments: Sequence[str]) -> None:
    """Train as told, and leave the report."""
    import tspin.train.process as training
    from benchmarks.training.quiet import quiet
    from tspin.train.step import run_job

    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: whoever stops the part must not leave a training on its GPU.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    watched = Watched(**json.loads(arguments[0]))
    quiet()
    rank = int(os.environ.get("RANK", "0"))
    if watched.device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # A training takes no callbacks from outside, which no user has missed.
    place: Any = training
    own, observer = place.TSPINTrainer, _observer(watched, rank)

    def observed(*args: Any, **settings: Any) -> Any:
        return own(*args, **settings, callbacks=[observer])

    place.TSPINTrainer = observed
    run_job(TrainJob.model_validate_json(watched.job))


if __name__ == "__main__":
    main(sys.argv[1:])
