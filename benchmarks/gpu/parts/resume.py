"""A training that is killed and continued ends with the bytes of one that never stopped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks.gpu.request import Publish, Request
from benchmarks.gpu.trainings import (
    Watched,
    lengths_of,
    training_config,
    training_job,
    write_triplets,
)
from tspin.files import sha256_file
from tspin.records.seconds import SECONDS
from tspin.records.training_log import TRAIN_LOG, read_train_log
from tspin.train.job import TrainJob
from tspin.train.step import run_job

__all__ = ["measure", "weights_apart"]

_STEPS_AFTER = 2


def measure(request: Request, publish: Publish) -> None:
    """Train, train again with a SIGKILL in the middle, compare every file.

    Raises:
        RuntimeError: the kill did not come, or files differ.
    """
    folder = Path(request.folder) / "resume"
    folder.mkdir()
    result: dict[str, Any] = {"killed_at": request.sizes.killed_at, "seconds": {}}

    def timed(name: str, run: Callable[[], int | None]) -> int | None:
        began = time.perf_counter()
        code = run()
        result["seconds"][name] = time.perf_counter() - began
        publish(result)
        return code

    killed = _job(request, folder, "killed")
    log = folder / "killed.log"
    code = timed("until the kill", lambda: _killed(request, killed, log))
    if code != -signal.SIGKILL:
        raise RuntimeError(f"was to be killed, exit code {code}: {log.read_text()[-1000:]}")
    result["steps_done"] = len(read_train_log(killed.out.with_name(TRAIN_LOG)))
    result["continued_after"] = _last_checkpoint(killed.checkpoints)
    timed("continued", lambda: _trained(killed))
    timed("whole", lambda: _trained(_job(request, folder, "whole")))
    whole = folder / "whole"
    result["steps"] = len(read_train_log(whole / TRAIN_LOG))
    result["same_bytes"] = _same_files(folder / "killed", whole)
    result["weights_apart"] = weights_apart(killed.out, whole / "model")
    publish(result)
    if not all(result["same_bytes"].values()):
        raise RuntimeError(f"not the same bytes: {_otherwise(request, folder, result)}")
    shutil.rmtree(folder)


def _job(request: Request, folder: Path, name: str) -> TrainJob:
    sizes = request.sizes
    count = sizes.batch * (sizes.killed_at + _STEPS_AFTER)
    triplets = folder / "triplets.jsonl"
    if not triplets.exists():
        write_triplets(triplets, request, count)
    lengths = lengths_of(sizes, count)
    longest = max(row.prompt + max(row.responses) for row in lengths)
    checkpoints = {"checkpoint_steps": sizes.checkpoint_steps}
    config = training_config(request, request.model, longest, system=checkpoints)
    return training_job(config, triplets, folder / name)


def _killed(request: Request, job: TrainJob, log: Path) -> int:
    """Train in another process, which kills itself; its exit code."""
    watched = Watched(
        job.model_dump_json(),
        request.sizes.device,
        report=str(log.with_suffix("")),
        killed_at=request.sizes.killed_at,
    )
    command = [sys.executable, "-m", "benchmarks.gpu.trainings", watched.as_json()]
    with log.open("w") as file:
        return subprocess.run(command, check=False, stdout=file, stderr=file).returncode


def _trained(job: TrainJob) -> None:
    run_job(job)


def _last_checkpoint(checkpoints: Path) -> int:
    """The last step with a whole checkpoint."""
    whole = [path.parent.name for path in checkpoints.glob("checkpoint-*/complete.json")]
    return max((int(re.sub(r"\D", "", name)) for name in whole), default=0)


def _same_files(ours: Path, theirs: Path) -> dict[str, bool]:
    """By path of every file that one of them has, whether its bytes are the same.

    What a training's time went to is left out: no two take the same.
    """
    names = {
        path.relative_to(root).as_posix()
        for root in (ours, theirs)
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(SECONDS)
    }
    return {name: _hash(ours / name) == _hash(theirs / name) for name in sorted(names)}


def _hash(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def weights_apart(ours: Path, theirs: Path) -> float:
    """The largest difference between two models' weights."""
    one, other = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    return max(float((one[name] - other[name]).abs().max()) for name in other)


def _otherwise(request: Request, folder: Path, result: dict[str, Any]) -> str:
    """Which files, and whether an uninterrupted training repeats its own bytes."""
    again = _job(request, folder, "again")
    _trained(again)
    repeats = _same_files(folder / "again", folder / "whole")
    result["uninterrupted_repeats_its_bytes"] = all(repeats.values())
    files = [name for name, same in result["same_bytes"].items() if not same]
    return f"{', '.join(files)}; weights are up to {result['weights_apart']:.2g} apart, and an " + (
        "uninterrupted training does repeat its own bytes"
        if all(repeats.values())
        else "uninterrupted training does not repeat its own bytes either"
    )
