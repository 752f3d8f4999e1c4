"""How long the steps of a run took, added up over all kills and continuations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from tspin.files import write_json
from tspin.records.step_clock import saved_now_and_then

__all__ = ["Clock", "Timed", "untimed"]

Timed = Callable[[str], AbstractContextManager[None]]
"""Called with a step's name around the step."""


def untimed(step: str) -> AbstractContextManager[None]:
    """Measures nothing."""
    return nullcontext()


class Clock:
    """Wall time by step in a JSON file, in seconds; a killed step keeps what it has used."""

    def __init__(self, path: Path) -> None:
        """Go on from what `path` holds."""
        self._path = path
        self.seconds: dict[str, float] = {}
        if path.is_file():
            self.seconds = json.loads(path.read_bytes())

    def take(self, other: Clock, step: str) -> None:
        """Take over what a step took elsewhere, where its output was taken over."""
        if step in other.seconds:
            self.seconds[step] = other.seconds[step]
            write_json(self._path, self.seconds)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        """Count the time of a block."""
        before, began = self.seconds.get(step, 0.0), time.perf_counter()

        def save() -> None:
            self.seconds[step] = before + time.perf_counter() - began
            write_json(self._path, self.seconds)

        with saved_now_and_then(save):
            yield
