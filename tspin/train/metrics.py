"""What each step of the training logs: the method's metrics, and how fast it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tspin.forward.flops import PassFlops, matrix_rate
from tspin.losses import LossTerms
from tspin.records.training_log import SPEED
from tspin.tokens.examples import ROLES

__all__ = ["Speed", "StepMetrics", "sample_metrics"]


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
        speeds = {
            "tokens_per_second": tokens / seconds,
            "triplets_per_second": triplets / seconds,
            "padding": 1 - tokens / positions,
        }
        if self._rate is not None:
            speeds["mfu"] = done / (seconds * self._rate * processes)
        return {f"{SPEED}{name}": value for name, value in speeds.items()}


def sample_metrics(
    terms: LossTerms,
    logps: Tensor,
    tokens: Tensor,
    identical: Tensor | None,
    *,
    saturated_gradient: float,
) -> dict[str, Tensor]:
    """The logged values of each triplet, shape (B,), by name; with several y', of each of them.

    Args:
        terms: Of the method's loss on this batch.
        logps: (k, B) summed response logps in nats, in the order of `ROLES`.
        tokens: (k, B) numbers of response tokens, end tokens included.
        identical: (B,) whether y' equals y token by token; None where there is no y'.
        saturated_gradient: |l'| under which a triplet counts as saturated.
    """
    values: dict[str, Tensor] = {}
    for role, logps_B, tokens_B in zip(ROLES, logps, tokens, strict=False):
        values |= {f"logps/{role}": logps_B, f"lengths/{role}": tokens_B}
    if identical is not None:
        values["identical"] = identical
    rewards = (terms.annotated_rewards, terms.synthetic_rewards, terms.proto_synthetic_rewards)
    for role, rewards_B in zip(ROLES, rewards, strict=True):
        if rewards_B is not None:
            values[f"rewards/{role}"] = rewards_B
    if terms.current_advantage is not None:
        preferred_B = terms.current_advantage > 0
        values["rewards/margins"] = terms.current_advantage
        values["rewards/accuracies"] = preferred_B
        values["rewards/higher_but_less_likely"] = preferred_B & (logps[0] < logps[1])
    if terms.saturation is not None:
        values["rewards/saturated"] = terms.saturation < saturated_gradient
    if terms.historical_advantage is not None:
        values["rewards/historical_margins"] = terms.historical_advantage
    return {name: value.detach().double() for name, value in values.items()}


class StepMetrics:
    """Sums over the triplets since the last row of the log.

    Sums and not means are gathered, so a value counts each triplet once, however the step was
    cut into forward passes and shared out over processes.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(
        self, values: dict[str, Tensor], *, triplets: int, weights: Tensor | None = None
    ) -> None:
        """Take in one forward pass.

        Args:
            values: (B,) by name; the same names each time, on every process.
            triplets: In the pass; 0 for an example that only stands in (see `StepCollator`).
            weights: (B,) where a triplet may have several y': those of one add up to 1.
        """
        for name, value in values.items():
            weighted = value if weights is None else weights * value
            total = weighted.sum() if triplets else torch.zeros_like(value[0])
            self._sums[name] = self._sums.get(name, torch.zeros_like(total)) + total
        self._count += triplets

    def drain(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means, and start anew.

        Args:
            reduce: Sums a tensor over all processes.

        Returns:
            Means over triplets by name, and `logps_per_token/ROLE` in nats: over all tokens.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        count = torch.full_like(self._sums[names[0]], self._count)
        total = reduce(torch.stack([count, *(self._sums[name] for name in names)])).tolist()
        self._sums, self._count = {}, 0
        means = {name: value / total[0] for name, value in zip(names, total[1:], strict=True)}
        for role in ROLES:
            if tokens := means.get(f"lengths/{role}"):
                means[f"logps_per_token/{role}"] = means[f"logps/{role}"] / tokens
        return means
