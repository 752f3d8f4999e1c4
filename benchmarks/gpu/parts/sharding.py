"""Several GPUs: whole weights on each (DDP) beside weights spread over them (`system.shard`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.parts.resume import weights_apart
from benchmarks.gpu.request import Publish, Request
from benchmarks.gpu.trainings import (
    Watched,
    lengths_of,
    training_config,
    training_job,
    write_triplets,
)
from tspin.processes.launch import launch
from tspin.records.training_log import SPEED
from tspin.train.job import TrainJob

__all__ = ["measure"]

_STEPS = 6


def measure(request: Request, publish: Publish) -> None:
    """Train the same with both, one process a GPU, and compare peaks, speeds and weights."""
    folder = Path(request.folder) / "sharding"
    folder.mkdir()
    count = request.gpus * request.sizes.batch * _STEPS
    triplets = write_triplets(folder / "triplets.jsonl", request, count)
    longest = max(row.prompt + max(row.responses) for row in lengths_of(request.sizes, count))
    result: dict[str, Any] = {"processes": request.gpus}
    jobs: dict[str, TrainJob] = {}
    for name, shard in (("ddp", "off"), ("sharded", "on")):
        config = training_config(
            request,
            request.model,
            longest,
            train={"global_batch_size": request.gpus * request.sizes.batch},
            system={"num_processes": request.gpus, "shard": shard},
        )
        jobs[name] = training_job(config, triplets, folder / name)
        report = folder / name / "report"
        watched = Watched(jobs[name].model_dump_json(), request.sizes.device, str(report))
        launch(request.gpus, "benchmarks.gpu.trainings", watched.as_json())
        result[name] = _found(report, request.gpus)
        publish(result)
    result["weights_apart"] = weights_apart(jobs["ddp"].out, jobs["sharded"].out)
    publish(result)


def _found(report: Path, processes: int) -> dict[str, Any]:
    reports = [
        json.loads(report.with_name(f"{report.name}-{rank}.json").read_text())
        for rank in range(processes)
    ]
    # The first steps compile and allocate.
    speeds = reports[0]["speeds"][2:]
    return {
        "allocated_bytes": [one["allocated_bytes"] for one in reports],
        "reserved_bytes": [one["reserved_bytes"] for one in reports],
        "tokens_per_second": _middle(speeds, "tokens_per_second"),
        "mfu": _middle(speeds, "mfu"),
        "steps": reports[0]["steps"],
    }


def _middle(speeds: Sequence[Mapping[str, float]], name: str) -> float | None:
    """Of the steps; None where it is not logged, as MFU on a CPU."""
    values = [row[f"{SPEED}{name}"] for row in speeds if f"{SPEED}{name}" in row]
    return median(values) if values else None
