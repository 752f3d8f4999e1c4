"""The curves of one training, from its log to the tracker, each step once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tspin.records.training_log import read_train_log
from tspin.tracking.server import TrackedRun
from tspin.tracking.values import LOSS, curve

__all__ = ["Curves"]

_VALUES = 1000
"""That a request may hold. A row is never split, so that the last step says what is there."""


class Curves:
    """Sends the rows of a train_log.jsonl that the tracker does not have.

    A training that continues from a checkpoint writes the rows behind it again, with the same
    values: those are there already. After a request that failed the tracker is asked what came.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is sent yet, as far as is known here."""
        self._path = path
        self._known: int | None = None
        """The last step of the tracker; None must be asked."""
        self._confirmed = 0
        self._seen: tuple[int, int] | None = None

    def send(self, run: TrackedRun) -> None:
        """Send what is new."""
        if not self._path.is_file():
            return
        state = self._path.stat()
        seen = (state.st_mtime_ns, state.st_size)
        if seen == self._seen:
            return
        rows = read_train_log(self._path)
        if self._known is None:
            self._known = self._confirmed = run.last_step(LOSS) or 0
        for part in _parts([row for row in rows if row["step"] > self._known]):
            last, self._known = int(part[-1]["step"]), None
            run.add(curve(part, int(time.time() * 1000)))
            self._known = self._confirmed = last
        self._seen = seen

    def unsent(self) -> str | None:
        """The steps that are missing, in words."""
        if not self._path.is_file():
            return None
        steps = [int(row["step"]) for row in read_train_log(self._path)]
        missing = [step for step in steps if step > self._confirmed]
        if not missing:
            return None
        return f"the curves of steps {missing[0]} to {missing[-1]}"


def _parts(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    size = max(1, _VALUES // max((len(row) for row in rows), default=1))
    return [rows[at : at + size] for at in range(0, len(rows), size)]
