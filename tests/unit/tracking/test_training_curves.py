"""A curve has each step once, whatever a tracker did with a request that failed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from tspin.tracking.server import Point, TrackedRun
from tspin.tracking.training import Curves
from tspin.tracking.values import LOSS


class Run:
    """Keeps points; a request may fail before they are kept, or when only the answer is lost."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.fails = ""

    def add(self, points: Iterable[Point]) -> None:
        if self.fails == "before":
            raise ConnectionError
        self.points.extend(points)
        if self.fails == "answer":
            raise ConnectionError

    def last_step(self, name: str) -> int | None:
        return max((point.step for point in self.points if point.name == name), default=None)

    def steps(self) -> list[int]:
        return [point.step for point in self.points if point.name == LOSS]


def _log(path: Path, steps: int) -> None:
    rows = ({"step": step, "loss": 1 / step} for step in range(1, steps + 1))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize("fails", ["before", "answer"])
def test_no_step_is_missing_or_comes_twice_after_a_failure(fails: str, tmp_path: Path) -> None:
    path, run = tmp_path / "train_log.jsonl", Run()
    curves = Curves(path)
    tracked = cast("TrackedRun", run)
    _log(path, 2)
    curves.send(tracked)
    _log(path, 4)
    run.fails = fails
    with pytest.raises(ConnectionError):
        curves.send(tracked)
    assert curves.unsent() == "the curves of steps 3 to 4"
    run.fails = ""
    curves.send(tracked)
    assert run.steps() == [1, 2, 3, 4]
    assert curves.unsent() is None


def test_a_row_that_a_continued_training_writes_again_is_not_sent_again(tmp_path: Path) -> None:
    path, run = tmp_path / "train_log.jsonl", Run()
    curves = Curves(path)
    for steps in (4, 2, 5):
        _log(path, steps)
        curves.send(cast("TrackedRun", run))
    assert run.steps() == [1, 2, 3, 4, 5]
