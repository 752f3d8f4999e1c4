"""What a command of `tspin` takes, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Taken", "measured"]

# What the kernel tells of an ended process counts what its parent had before it began.
_TOLD = """
import sys
from pathlib import Path
from tspin.cli import main
told = Path(sys.argv.pop(1))
try:
    main()
finally:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    told.write_text(status["VmHWM"].split()[0])
"""


@dataclass(frozen=True)
class Taken:
    """By one command, with the processes that it has waited for."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of a processor."""
    peak: float
    """MiB of memory at the most, of its own process."""


def measured(arguments: Sequence[str], folder: Path, log: Path | None = None) -> Taken:
    """Run a command and wait for it.

    Args:
        arguments: Of `tspin`.
        folder: Where it runs.
        log: Gets what it prints; None throws that away.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        peak = Path(scratch) / "peak"
        command = [sys.executable, "-c", _TOLD, str(peak), *arguments]
        began = time.perf_counter()
        with open(os.devnull if log is None else log, "ab") as out:  # noqa: PTH123
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said = "" if log is None else log.read_text()[-1000:]
            raise RuntimeError(f"tspin {' '.join(arguments)}: code {process.returncode}\n{said}")
        return Taken(wall, usage.ru_utime + usage.ru_stime, int(peak.read_text()) / 1024)
