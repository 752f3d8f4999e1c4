"""Peak memory of one training, each in a process of its own.

`python -m benchmarks.training.peak_memory '{"contender": ..., "task": {...}}'` trains and prints
one line of JSON: the peak in bytes, or that it did not fit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.training.task import Task

__all__ = ["peak_memory", "peaks"]

ROOT = Path(__file__).parents[2]


def peaks(task: Task, contenders: Sequence[str]) -> dict[str, int]:
    """Peak bytes by contender, one after the other, as each takes gigabytes.

    Raises:
        RuntimeError: a training failed, or did not fit.
    """
    measured = {name: peak_memory(task, name) for name in contenders}
    fitting = {name: peak for name, peak in measured.items() if peak is not None}
    if len(fitting) < len(measured):
        raise RuntimeError(f"out of memory: {sorted(measured.keys() - fitting.keys())}")
    return fitting


def peak_memory(task: Task, contender: str) -> int | None:
    """Peak bytes of a training in a new process, optimiser included; None if it did not fit.

    On a CPU `VmHWM`, all resident memory of the process; on a GPU what torch had allocated there.

    Raises:
        RuntimeError: the training failed, with what it wrote.
    """
    request = json.dumps({"contender": contender, "task": asdict(task)})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.peak_memory", request],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{contender}: exit code {done.returncode}\n{done.stderr}")
    peak: int | None = json.loads(done.stdout.splitlines()[-1])["bytes"]
    return peak


def main(request: str) -> None:
    """Train as asked and print the peak."""
    import torch

    from benchmarks.training.contenders import CONTENDERS
    from benchmarks.training.quiet import quiet

    asked = json.loads(request)
    task = Task(**asked["task"])
    quiet()
    if task.device == "cpu":
        torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as out:
            CONTENDERS[asked["contender"]](task, Path(out)).train()
        peak: int | None = _peak(task.device)
    except torch.OutOfMemoryError:
        peak = None
    print(json.dumps({"bytes": peak}))


def _peak(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = dict(line.split(":") for line in lines)["VmHWM"].split()[0]
    return int(kibibytes) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
