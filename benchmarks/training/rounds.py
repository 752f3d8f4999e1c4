"""Rounds: every contender trains once, one after another in one process, in turning order."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import torch

from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.stopwatch import Stopwatch
from benchmarks.training.task import Task

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["Round", "run_rounds"]


@dataclass(frozen=True)
class Round:
    """What one round gave, by contender."""

    seconds: dict[str, float]
    """Of one training: processor time on a CPU, time on the wall on a GPU."""
    mfu: dict[str, float]
    """Model FLOP utilisation, on a GPU, of those that log it."""


def run_rounds(task: Task, rounds: int, out: Path) -> Iterator[Round]:
    """Train all contenders so many times.

    On a CPU all of them stay in memory. On a GPU only one fits: it is made anew for its turn. A
    contender that has just been made trains one step that does not count.

    Args:
        task: What is trained on what.
        rounds: How often, the contenders in turn.
        out: A folder for their files.
    """
    stage = _Stage(task, out)
    names = list(CONTENDERS)
    for number in range(rounds):
        turn = number % len(names)
        seconds: dict[str, float] = {}
        mfu: dict[str, float] = {}
        for name in [*names[turn:], *names[:turn]]:
            seconds[name], logged = stage.train(name)
            mfu |= {name: mean(logged)} if logged else {}
        yield Round(seconds, mfu)
    stage.clear()


class _Stage:
    """The contenders that are in memory."""

    def __init__(self, task: Task, out: Path) -> None:
        self._task = task
        self._out = out
        self._made: dict[str, tuple[Trainer, Stopwatch]] = {}

    def train(self, name: str) -> tuple[float, list[float]]:
        """Train this contender; the seconds it took, and what MFU it logged."""
        if name not in self._made:
            self._make(name)
        trainer, watch = self._made[name]
        gc.collect()
        trainer.train()
        rows = trainer.state.log_history
        return watch.seconds, [row["speed/mfu"] for row in rows if "speed/mfu" in row]

    def clear(self) -> None:
        """Let go of all of them, and of their memory: other processes measure there."""
        self._made.clear()
        gc.collect()
        if self._task.device == "cuda":
            torch.cuda.empty_cache()
        else:
            # glibc keeps what was freed: 2.0 of 2.6 GiB after the profile `equal`.
            ctypes.CDLL("libc.so.6").malloc_trim(0)

    def _make(self, name: str) -> None:
        if self._task.device == "cuda":
            self.clear()
        trainer, watch = CONTENDERS[name](self._task, self._out), Stopwatch(self._task.device)
        trainer.add_callback(watch)
        trainer.args.max_steps = 1
        trainer.train()
        trainer.args.max_steps = -1
        self._made[name] = (trainer, watch)
