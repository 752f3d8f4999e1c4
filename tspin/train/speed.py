"""How fast training goes: tokens and triplets a second, padding, the share of what a GPU can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tspin.forward.flops import PassFlops, matrix_rate

__all__ = ["SPEED", "Speed"]

SPEED = "speed/"
"""What the logged names begin with; they differ from run to run, as nothing else in the log."""


class Speed:
    """Counts what was computed since the last row of the log, and the time it took."""

    def __init__(self, flops: PassFlops, device: torch.device, precision: torch.dtype) -> None:
        """Set up for one process.

        Args:
            flops: Of the policy that is trained.
            device: Where it is; on a GPU its rate at multiplying matrices is measured, once.
            precision: What it computes in.
        """
        self._flops = flops
        self._rate = matrix_rate(device, precision) if device.type == "cuda" else None
        # Positions, tokens, triplets, floating-point operations.
        self._counts = torch.zeros(4, dtype=torch.float64)
        self._began: float | None = None

    def begin(self) -> None:
        """Start the clock, if it does not run yet."""
        if self._began is None:
            self._began = time.perf_counter()

    def add(self, batch: Mapping[str, Any]) -> None:
        """Take in one forward pass (see `tspin.tokens.steps.StepCollator`), while on the CPU."""
        positions, triplets = batch["input_ids"].numel(), len(batch["ids"])
        tokens = int(batch["attention_mask"].sum()) if "attention_mask" in batch else positions
        done = self._flops.of(batch) if self._rate is not None and triplets else 0.0
        counts = [positions, tokens if triplets else 0, triplets, done]
        self._counts += torch.tensor(counts, dtype=torch.float64)

    def drain(self, reduce: Callable[[Tensor], Tensor], processes: int) -> dict[str, float]:
        """The speeds of all processes together, and start anew.

        Args:
            reduce: Sums a tensor over all processes.
            processes: How many there are.

        Returns:
            By name: `speed/tokens_per_second` (through the model, padding not counted),
            `speed/triplets_per_second`, `speed/padding` (share of the positions computed), and on
            a GPU `speed/mfu`: the model's floating-point operations, none computed twice, over
            what the GPUs would have done in that time by multiplying matrices alone.
        """
        if self._began is None:
            return {}
        seconds = time.perf_counter() - self._began
        positions, tokens, triplets, done = reduce(self._counts).tolist()
        self._counts = torch.zeros_like(self._counts)
        self._began = None
        found = {
            "tokens_per_second": tokens / seconds,
            "triplets_per_second": triplets / seconds,
            "padding": 1 - tokens / positions,
        }
        if self._rate is not None:
            found["mfu"] = done / (seconds * self._rate * processes)
        return {f"{SPEED}{name}": value for name, value in found.items()}
