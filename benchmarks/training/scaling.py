"""How the cost of a step grows with the tokens in its batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import linear_regression, median

from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.stopwatch import Stopwatch
from benchmarks.training.task import Task

__all__ = ["Cost", "growth", "measure_growth"]

SIZES = (1024, 2048, 4096, 8192, 16384)


@dataclass(frozen=True)
class Cost:
    """Of one optimiser step."""

    triplets: int
    tokens: int
    """Packed: prompts once."""
    seconds: float
    """Median over the rounds."""


def measure_growth(task: Task, rounds: int, out: Path) -> Iterator[Cost]:
    """Steps of about 1k, 2k, 4k, 8k and 16k tokens, of triplets of the task's profile.

    Args:
        task: What is trained on what.
        rounds: Of each length.
        out: A folder for the files.
    """
    for size in SIZES:
        sized = replace(task, batch=_triplets(task, size), steps=1)
        trainer, watch = CONTENDERS["tspin"](sized, out), Stopwatch(task.device)
        trainer.add_callback(watch)
        seconds = []
        for _ in range(rounds + 1):  # The first one does not count.
            trainer.train()
            seconds.append(watch.seconds)
        yield Cost(sized.batch, _tokens(sized), median(seconds[1:]))


def growth(costs: list[Cost]) -> float:
    """The exponent k of seconds ~ tokens^k, fitted to the logarithms: 1 is linear."""
    tokens = [math.log(cost.tokens) for cost in costs]
    seconds = [math.log(cost.seconds) for cost in costs]
    return linear_regression(tokens, seconds).slope


def _triplets(task: Task, tokens: int) -> int:
    """The most triplets with at most so many tokens; at least 1."""
    count = 1
    while _tokens(replace(task, batch=count + 1, steps=1)) <= tokens:
        count += 1
    return count


def _tokens(task: Task) -> int:
    return sum(row.packed for row in task.lengths())
