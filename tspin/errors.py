"""The errors that end a command, each with its exit code."""

from __future__ import annotations

from pathlib import Path

__all__ = ["GateRefusedError", "InputError", "TspinError", "located"]


class TspinError(Exception):
    """The work failed. Shown as one message without a traceback; exit code 1."""

    exit_code = 1


class InputError(TspinError):
    """The input, the configuration or the usage is wrong; exit code 2.

    The message names the file, line, field and value, and says what would be right.
    """

    exit_code = 2


class GateRefusedError(TspinError):
    """A gate compared the numbers and said no; exit code 3."""

    exit_code = 3


def located(path: Path | str, line: int | None, message: str) -> InputError:
    """An `InputError` that begins with `path:line: `, the form that editors can jump to.

    Args:
        path: The file.
        line: From 1; None where no line is to blame.
        message: What is wrong, and what would be right.
    """
    place = f"{path}:{line}" if line is not None else f"{path}"
    return InputError(f"{place}: {message}")
