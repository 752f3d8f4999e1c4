"""The most triplets (pairs, for TRL) that one forward and backward pass can take on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.peak_memory import peak_memory
from benchmarks.training.task import Task

__all__ = ["largest", "longest_batches"]

_ALL_AT_ONCE = 2**40
"""Tokens a pass: never cut."""


def longest_batches(task: Task) -> dict[str, int]:
    """By contender, each size tried in a process of its own."""

    def fits(name: str) -> Callable[[int], bool]:
        return lambda batch: (
            peak_memory(replace(task, batch=batch, steps=1, tokens=_ALL_AT_ONCE), name) is not None
        )

    return {name: largest(fits(name)) for name in CONTENDERS}


def largest(fits: Callable[[int], bool]) -> int:
    """The largest number that fits, where all smaller ones do; 0 if not even 1 does."""
    good, bad = 0, 1
    while fits(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
