"""A method's training step by step, a mean over its seeds and thinned, for compare.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from statistics import fmean
from typing import Any

from tspin.evaluate.intervals import mean
from tspin.records.training_log import GAPS, final_mean

__all__ = ["CURVES", "dynamics"]

Log = Sequence[Mapping[str, Any]]

CURVES = (
    "logps/annotated",
    "logps/synthetic",
    "rewards/annotated",
    "rewards/synthetic",
    "rewards/accuracies",
    "rewards/higher_but_less_likely",
    "rewards/saturated",
)
"""What is kept of the train logs, where a method logs it."""

_POINTS = 200
"""Of one curve over all iterations, at most (at least one an iteration)."""


def dynamics(
    logs: Sequence[Sequence[Log]], confidence: float, *, points: int = _POINTS
) -> list[dict[str, Any]]:
    """What happened in training, iteration by iteration.

    An iteration's steps are cut into parts of equal length, as many for every seed; a curve has
    the mean over each part, then over the seeds. A seed that stopped early is in the iterations
    that it came to.

    Args:
        logs: By seed, then by iteration, the rows of train_log.jsonl.
        confidence: Such as 0.95.
        points: Of a curve over all iterations, at most.

    Returns:
        By iteration: `steps`, the logged optimiser steps of each seed that came to it; `curves`,
        by name in `CURVES`; `gaps`, estimates over the seeds of the differences between summed
        log-probabilities at the end (`tspin.records.closing`), in nats, by name in `GAPS`.
    """
    iterations = max(map(len, logs))
    limit = max(1, points // iterations)
    reached = [[log for log in iteration_logs if log] for iteration_logs in zip_longest(*logs)]
    return [
        {
            "steps": [len(log) for log in iteration_logs],
            "curves": _curves(iteration_logs, min([limit, *map(len, iteration_logs)])),
            "gaps": _gaps(iteration_logs, confidence),
        }
        for iteration_logs in reached
    ]


def _curves(logs: Sequence[Log], parts: int) -> dict[str, list[float | None]]:
    names = [name for name in CURVES if any(name in row for log in logs for row in log)]
    return {
        name: [
            _mean([_mean([row.get(name) for row in _part(log, at, parts)]) for log in logs])
            for at in range(parts)
        ]
        for name in names
    }


def _part(log: Log, at: int, parts: int) -> Log:
    return log[at * len(log) // parts : (at + 1) * len(log) // parts]


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are numbers, to six digits: nobody sees more in a figure."""
    known = [value for value in values if value is not None]
    return float(f"{fmean(known):.6g}") if known else None


def _gaps(logs: Sequence[Log], confidence: float) -> dict[str, Any]:
    gaps = {}
    for gap, (better, worse) in GAPS.items():
        ends = [final_mean(log, f"logps/{better}", f"logps/{worse}") for log in logs]
        values = [end.value for end in ends if end is not None]
        if values:
            gaps[gap] = mean(values, confidence=confidence).as_json()
    return gaps
