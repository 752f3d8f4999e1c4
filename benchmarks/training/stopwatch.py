"""How long a training took: processor time on a CPU, wall-clock time on a GPU."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback

__all__ = ["Stopwatch"]


class Stopwatch(TrainerCallback):
    """Seconds from the start of training to its end: batches, passes, optimiser, log.

    On a CPU the processor time of this process, which other work on the machine does not count
    into; on a GPU the time on the wall, waiting for the GPU at both ends.
    """

    def __init__(self, device: str) -> None:
        self._gpu = device == "cuda"
        self._begin = 0.0
        self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self._begin = self._now()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.seconds = self._now() - self._begin

    def _now(self) -> float:
        if not self._gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()
