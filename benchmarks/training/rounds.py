"""Rounds: every contender trains once, one after another in one process, in turning order."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.stopwatch import Stopwatch
from benchmarks.training.task import Task

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["run_rounds"]


def run_rounds(task: Task, rounds: int, out: Path) -> Iterator[dict[str, float]]:
    """Seconds of one training of each contender, round by round.

    On a CPU all contenders stay in memory. On a GPU only one fits: it is made anew for its turn.
    A contender that has just been made trains one step that does not count.
    """
    stage = _Stage(task, out)
    names = list(CONTENDERS)
    for number in range(rounds):
        turn = number % len(names)
        yield {name: stage.seconds(name) for name in [*names[turn:], *names[:turn]]}


class _Stage:
    """The contenders that are in memory."""

    def __init__(self, task: Task, out: Path) -> None:
        self._task = task
        self._out = out
        self._made: dict[str, tuple[Trainer, Stopwatch]] = {}

    def seconds(self, name: str) -> float:
        """Of one training of this contender."""
        if name not in self._made:
            self._make(name)
        trainer, watch = self._made[name]
        gc.collect()
        trainer.train()
        return watch.seconds

    def _make(self, name: str) -> None:
        if self._task.device == "cuda":
            self._made.clear()
            gc.collect()
            torch.cuda.empty_cache()
        trainer, watch = CONTENDERS[name](self._task, self._out), Stopwatch(self._task.device)
        trainer.add_callback(watch)
        trainer.args.max_steps = 1
        trainer.train()
        trainer.args.max_steps = -1
        self._made[name] = (trainer, watch)
