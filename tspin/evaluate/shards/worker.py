"""One of several processes that make an evaluation: `python -m tspin.evaluate.shards.worker`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path

from tspin.evaluate.shards.processes import ShardsJob
from tspin.evaluate.step import evaluate
from tspin.generate.shards import Shard
from tspin.processes.group import errors_only
from tspin.processes.worker import run_worker
from tspin.progress.status import NOTES

__all__ = ["make_shard"]

_GROUP = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher says of the group that processes of a training form, and that these do not."""


def make_shard(path: str) -> None:
    """Make the shard of this process, on a GPU of its own.

    Args:
        path: File of the `ShardsJob`.
    """
    job = ShardsJob.model_validate_json(Path(path).read_bytes())
    process = _stand_alone()
    with nullcontext() if process == 0 else _silent():
        evaluate(
            job.config,
            model=job.model,
            annotated=job.annotated,
            out=job.out(process),
            proto=job.proto,
            iteration=job.iteration,
            temperature=job.temperature,
            shard=Shard.parse(job.shards[process]),
        )


@contextmanager
def _silent() -> Iterator[None]:
    """Let the first process show its progress, which is that of all of them."""
    os.environ.pop(NOTES, None)
    with errors_only(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        yield


def _stand_alone() -> int:
    """Leave the launcher's group, and see one GPU only, which vLLM's processes then have too.

    Returns:
        Which of the launcher's processes this is.
    """
    process = int(os.environ.pop("LOCAL_RANK"))
    for name in _GROUP:
        os.environ.pop(name, None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(process)] if visible is None else visible.split(",")[process:]
    if any(devices):  # Else there are none to be seen: all is computed on the CPU.
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[0]
    return process


if __name__ == "__main__":
    run_worker(make_shard)
