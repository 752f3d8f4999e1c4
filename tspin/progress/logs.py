"""Log lines: as people read them, or with run, iteration and step, as text or as JSON."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast, get_args

from tspin.errors import InputError, redacted
from tspin.progress.status import where

__all__ = ["LOG_FORMAT", "LogFormat", "formatter", "log_format", "logs_as_asked"]

LOG_FORMAT = "TSPIN_LOG_FORMAT"
"""A variable and no setting: lines come before the configuration is read, and from processes that
a command starts, which inherit it."""

LogFormat = Literal["plain", "tagged", "json"]
"""plain is a line of time, level and message; tagged adds run, iteration and step; json has the
same as an object a line."""
_PLAIN = "%(asctime)s %(levelname)s %(message)s"
_TAGGED = "%(asctime)s %(levelname)s [%(place)s] %(message)s"
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "place"}
"""What every record has; the rest was given as `extra`."""


def log_format() -> LogFormat:
    """What TSPIN_LOG_FORMAT asks for.

    Raises:
        InputError: something that there is not.
    """
    asked = os.environ.get(LOG_FORMAT) or "plain"
    if asked not in get_args(LogFormat):
        known = ", ".join(get_args(LogFormat))
        raise InputError(f"{LOG_FORMAT} is {asked!r}; expected one of: {known}")
    return cast(LogFormat, asked)


def formatter() -> logging.Formatter:
    """What writes lines as asked.

    Raises:
        InputError: see `log_format`.
    """
    kinds = {"plain": logging.Formatter(_PLAIN), "tagged": _Tagged(_TAGGED), "json": _Json()}
    return kinds[log_format()]


@contextmanager
def logs_as_asked() -> Iterator[None]:
    """Write lines as asked inside the block, where another program has set up how they are written.

    Kubeflow's executor is one: a task's lines have its own form unless TSPIN_LOG_FORMAT asks for
    another.

    Raises:
        InputError: see `log_format`.
    """
    if log_format() == "plain":
        yield
        return
    handlers = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    for handler, _ in handlers:
        handler.setFormatter(formatter())
    try:
        yield
    finally:
        for handler, before in handlers:
            handler.setFormatter(before)


def _where(record: logging.LogRecord) -> dict[str, Any]:
    """Run, iteration and step; of an error those that it came from."""
    return {name: vars(record).get(name, value) for name, value in where().items()}


class _Tagged(logging.Formatter):
    """A plain line with the place of the work in brackets: `[my-run 1 train]`."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [str(value) for value in _where(record).values() if value not in (None, "")]
        record.place = " ".join(parts) or "-"
        return super().format(record)


class _Json(logging.Formatter):
    """An object a line; secrets are taken out of the message as they are of errors."""

    def format(self, record: logging.LogRecord) -> str:
        import json
        from datetime import UTC, datetime

        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **_where(record),
            "message": redacted(record.getMessage()),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)
