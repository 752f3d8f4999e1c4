"""SIGTERM while training: noted, agreed on by all processes, and ended by a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed

from tspin.errors import TspinError

__all__ = ["StoppedError", "Termination"]


class StoppedError(TspinError):
    """Training was asked to stop (SIGTERM) and saved a checkpoint; exit code 143 (128 + 15)."""

    exit_code = 143


class Termination:
    """Notes SIGTERM while training, instead of dying of it."""

    def __init__(self) -> None:
        self.requested = False
        self.stopped_at: int | None = None
        """The optimiser step after which training stopped, if it did."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the signal inside the block; outside, it acts as before."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only.
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def agreed(self, device: torch.device) -> bool:
        """Whether any process was asked to stop: all stop after the same step."""
        if not torch.distributed.is_initialized():
            return self.requested
        flag = torch.tensor(int(self.requested), device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag.item())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
