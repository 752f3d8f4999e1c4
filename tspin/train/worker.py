"""One training process: `python -m tspin.train.worker JOB`, started by `tspin.processes.launch`."""

from __future__ import annotations

from tspin.processes.worker import run_worker
from tspin.train.job import TrainJob
from tspin.train.step import run_job

__all__ = ["train_job"]


def train_job(job: str) -> None:
    """Train as a job in JSON says."""
    run_job(TrainJob.model_validate_json(job))


if __name__ == "__main__":
    run_worker(train_job)
