"""The harness without its noise, and with its reasons."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Reasons", "quiet"]


class Reasons(logging.Handler):
    """What the harness logs while it is quiet; its errors go on to whoever listens."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message; an error is logged as ever."""
        self._messages.append((record.levelno, record.getMessage()))
        if record.levelno >= logging.ERROR:
            logging.getLogger().handle(record)

    def because(self, error: object, about: Path | None) -> str:
        """An error, and in brackets what was logged before it: errors, and what names a file.

        Args:
            error: What is to be explained.
            about: A folder. The harness logs for debugging only that a file in it is broken; its
                warnings tell of defaults that it took, and are not worth the reader's time.
        """
        messages = (
            message
            for level, message in self._messages
            if level >= logging.ERROR or f"{about}/" in message
        )
        listed = "; ".join(dict.fromkeys(messages))
        return f"{error} ({listed})" if listed else str(error)


class _WithoutBars(io.TextIOBase):
    """Standard error without progress bars: they begin with a carriage return, messages do not.

    Who takes it for standard error and keeps it, as the logging of a library does that is first
    imported meanwhile, gets through for good once the bars are over.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self.stream: Any = stream
        """None once bars count as any other text."""
        self._in_bar = False

    def write(self, text: str) -> int:
        if self.stream is None:
            return int(sys.stderr.write(text))
        self._in_bar = text.startswith("\r") or (self._in_bar and not text.strip("\n\x1b[A "))
        return len(text) if self._in_bar else int(self.stream.write(text))

    def flush(self) -> None:
        (sys.stderr if self.stream is None else self.stream).flush()


@contextlib.contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[Reasons]:
    """Without the harness's warnings, and without its bars where nobody watches a terminal.

    Args:
        level: What it logs from this level on is kept for the message of an error.
    """
    log = logging.getLogger("lm_eval")
    before, reasons = (log.level, log.propagate), Reasons()
    log.setLevel(level)
    log.propagate = False
    log.addHandler(reasons)
    stream = _WithoutBars(sys.stderr)
    bars: Any = contextlib.nullcontext()
    if not sys.stderr.isatty():
        bars = contextlib.redirect_stderr(stream)
    try:
        with bars:
            yield reasons
    finally:
        stream.stream = None
        log.removeHandler(reasons)
        log.propagate = before[1]
        log.setLevel(before[0])
