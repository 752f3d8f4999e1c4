"""When this process began, where it was started for the step that follows. Imports nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["count_process_start", "take_process_start"]

_counts = False


def count_process_start() -> None:
    """Let the next step count from the start of this process, which was started for it."""
    global _counts  # noqa: PLW0603  (a process has one start)
    _counts = True


def take_process_start() -> float | None:
    """When this process began, as `time.monotonic` has it, for the first step that asks.

    None for every other step, where no step is to count from it, and where it is unknown.
    """
    global _counts
    counts, _counts = _counts, False
    return _began() if counts else None


def _began() -> float | None:
    try:
        # proc(5): field 22, in ticks since boot; the second field may hold blanks.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - began)
    except (OSError, AttributeError, ValueError, IndexError):
        return None  # No Linux.
