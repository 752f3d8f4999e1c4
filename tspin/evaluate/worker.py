"""One of several processes that share a policy's weights: `python -m tspin.evaluate.worker`."""

from __future__ import annotations

from pathlib import Path

import torch.distributed

from tspin.evaluate.sharing import FINDINGS, JOB, Measurement
from tspin.files import atomic_file
from tspin.models.device import resolve_device
from tspin.processes.group import join_group
from tspin.processes.worker import run_worker

__all__ = ["measure"]


def measure(folder: str) -> None:
    """Make the measurement that is described in a folder; the first process leaves the findings."""
    job = Measurement.model_validate_json(Path(folder, JOB).read_bytes())
    join_group(resolve_device(job.config.system))
    findings = job.found_with_others()
    if torch.distributed.get_rank() == 0:
        with atomic_file(Path(folder, FINDINGS)) as file:
            file.write(findings.model_dump_json().encode())


if __name__ == "__main__":
    run_worker(measure)
