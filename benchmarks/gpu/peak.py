"""Peak memory of what this process does from a point on."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

__all__ = ["Peak", "resident"]


def resident(kind: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[kind].split()[0]) * 1024


class Peak:
    """Counts from where it is made.

    On a GPU what torch allocates and what it reserves for that; on a CPU, for both, by how much
    resident memory rises above where it stood.
    """

    def __init__(self, device: str) -> None:
        self._gpu = device == "cuda"
        gc.collect()
        if self._gpu:
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return
        Path("/proc/self/clear_refs").write_text("5")  # Forget the highest mark so far.
        self._before = resident("VmRSS")

    @property
    def allocated(self) -> int:
        """Bytes in use at most."""
        return torch.cuda.max_memory_allocated() if self._gpu else self._risen()

    @property
    def reserved(self) -> int:
        """Bytes held at most, fragments included."""
        return torch.cuda.max_memory_reserved() if self._gpu else self._risen()

    def _risen(self) -> int:
        return resident("VmHWM") - self._before
