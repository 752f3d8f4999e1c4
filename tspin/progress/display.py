"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from tspin.progress.console import draws_bars, stderr_console
from tspin.progress.logs import log_format
from tspin.progress.status import publish

__all__ = ["Progress", "progress", "seconds_left"]

log = logging.getLogger(__name__)

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
        if draws_bars(console):
            what = TextColumn("{task.description}", markup=False)  # It may name a user's file.
            columns = (what, BarColumn(), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]}", markup=False)
            self._bar = RichProgress(*columns, rate, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task(label, total=total, completed=done, rate="")

    def advance(self, items: int, tokens: int = 0) -> None:
        """Count finished items, and tokens if the work makes any."""
        self._done += items
        self._tokens += tokens
        now = time.monotonic()
        publish(
            done=self._done,
            open=self._total - self._done,
            tokens_per_second=self._rate(now),
            seconds_left=self._left(now),
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._shown_rate(now))
            return
        if now - self._shown >= self._seconds or self._done >= self._total:
            self._shown = now
            self._show(self._line(now))

    def _show(self, line: str) -> None:
        if log_format() == "plain":
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)
        else:
            log.info("%s", line)

    def _rate(self, now: float) -> float | None:
        """Tokens a second."""
        seconds = now - self._began
        return self._tokens / seconds if self._tokens and seconds > 0 else None

    def _shown_rate(self, now: float) -> str:
        rate = self._rate(now)
        return "" if rate is None else f"{rate:,.0f} tokens/s"

    def _left(self, now: float) -> float | None:
        made, rest = self._done - self._start, self._total - self._done
        return seconds_left(now - self._began, made, rest)

    def _line(self, now: float) -> str:
        parts = [f"{self._label}: {self._done}/{self._total} {self._unit}", self._shown_rate(now)]
        left = self._left(now)
        if left:
            parts.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join(part for part in parts if part)


def seconds_left(elapsed: float, made: int, rest: int) -> float | None:
    """How long work takes to its end at its pace so far; None where it has none yet.

    Args:
        elapsed: Seconds since it began here.
        made: Items since then.
        rest: Items to come.
    """
    return elapsed / made * rest if made > 0 else None


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
        label, total, done, unit, stderr_console() if console is None else console, seconds
    )
    if shown._bar is None:
        yield shown
        return
    with shown._bar:
        yield shown
