"""What the benchmark found for one profile: raw figures, ratios and their spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from benchmarks.training.lengths import padded_positions
from benchmarks.training.rounds import Round
from benchmarks.training.task import Task

__all__ = ["RATIOS", "profile_result"]

RATIOS = {
    "vs_trl_reference": ("trl_reference", "tspin"),
    "vs_trl_precomputed": ("trl_precomputed", "tspin"),
    "iteration0_vs_trl_reference": ("trl_reference", "tspin_iteration0"),
}
"""Seconds of the first over seconds of the second: by how much tspin has more triplets a second
than TRL has pairs a second. Higher is better for tspin."""


def profile_result(task: Task, rounds: Sequence[Round], peaks: Mapping[str, int]) -> dict[str, Any]:
    """One profile's part of the JSON file.

    Args:
        task: What was trained.
        rounds: At least one.
        peaks: Peak memory in bytes, by contender.
    """
    ratios = {
        name: [one.seconds[peer] / one.seconds[own] for one in rounds]
        for name, (peer, own) in RATIOS.items()
    }
    count = task.batch * task.steps
    rates = [{name: count / taken for name, taken in one.seconds.items()} for one in rounds]
    lengths = task.lengths()
    positions, tokens = padded_positions(lengths, task.batch)
    return {
        "task": asdict(task) | {"folder": None, "gsm8k": None},
        "triplets": count,
        "mean_tokens": {
            "prompt": mean(row.prompt for row in lengths),
            "response": mean(length for row in lengths for length in row.responses),
        },
        "trl_padding": 1 - tokens / positions,
        "rounds": [asdict(one) for one in rounds],
        "per_second": _over(rates, median),
        "mfu": _over([one.mfu for one in rounds], median),
        "peak_memory_bytes": dict(peaks),
        "ratios": {name: median(values) for name, values in ratios.items()}
        | {"peak_memory_vs_trl_reference": peaks["tspin"] / peaks["trl_reference"]},
        "spread": {name: [min(values), max(values)] for name, values in ratios.items()},
    }


def _over(
    rounds: Sequence[Mapping[str, float]], summary: Callable[[list[float]], float]
) -> dict[str, float]:
    return {name: summary([one[name] for one in rounds]) for name in rounds[0]}
