"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress", "progress"]

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts what is done and shows it; made by `progress`."""

    def __init__(
        self, label: str, total: int, done: int, unit: str, console: Console, seconds: float
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start, self._done = done, done
        self._tokens = 0
        self._began = self._shown = time.monotonic()
        self._console, self._seconds = console, seconds
        self._bar: RichProgress | None = None
        if console.is_terminal:
            what = TextColumn("{task.description}", markup=False)  # It may name a user's file.
            columns = (what, BarColumn(), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]}", markup=False)
            self._bar = RichProgress(*columns, rate, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task(label, total=total, completed=done, rate="")

    def advance(self, items: int, tokens: int = 0) -> None:
        """Count finished items, and tokens if the work makes any."""
        self._done += items
        self._tokens += tokens
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate())
            return
        now = time.monotonic()
        if now - self._shown >= self._seconds or self._done >= self._total:
            self._shown = now
            self._console.print(self._line(now), soft_wrap=True, highlight=False, markup=False)

    def _rate(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{self._tokens / seconds:,.0f} tokens/s" if self._tokens and seconds > 0 else ""

    def _line(self, now: float) -> str:
        parts = [f"{self._label}: {self._done}/{self._total} {self._unit}", self._rate()]
        rest = self._total - self._done
        if rest > 0 and self._done > self._start:
            seconds = round((now - self._began) / (self._done - self._start) * rest)
            parts.append(f"{timedelta(seconds=seconds)} left")
        return ", ".join(part for part in parts if part)


@contextmanager
def progress(
    label: str,
    total: int,
    *,
    done: int = 0,
    unit: str = "prompts",
    console: Console | None = None,
    seconds: float = _SECONDS_BETWEEN_LINES,
) -> Iterator[Progress]:
    """Show the progress of the block that calls `advance`.

    Args:
        label: What is going on, such as "generate".
        total: Items in all.
        done: Items that an earlier run finished.
        unit: What an item is called.
        console: Where to; standard error by default, which leaves standard output to results.
        seconds: Time between two plain lines at the least.
    """
    shown = Progress(
        label, total, done, unit, Console(stderr=True) if console is None else console, seconds
    )
    if shown._bar is None:
        yield shown
        return
    with shown._bar:
        yield shown
