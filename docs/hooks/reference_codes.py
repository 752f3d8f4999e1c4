"""The page of exit codes: the errors that end a command, from `tspin.errors`."""

from __future__ import annotations

from reference_text import docstring_text, table

from tspin import errors

__all__ = ["exit_codes_page"]

_NO_ERROR = (
    ("0", "", "The work is done, or nothing was left to do."),
    ("143", "SIGTERM", "Training has saved a checkpoint and ended. The same command continues."),
)
"""Codes that no exception stands for."""

_HEAD = """# Exit codes

Every command ends with one of these codes. An error is one
message on standard error, without a traceback. A message about a file begins with `file:line: `,
the form that editors can jump to. No partial output is left behind.

"""

_TAIL = """
Two kinds of errors end with code 1 as well: those of the operating system, such as a full disk, and
a fault in `tspin` itself. A fault shows its traceback. Please report it.

A Kubernetes Job of this project ends at once with code 2 or 3, since another try would end alike.
Other codes are retried ([Kubernetes](../guides/kubernetes.md)).
"""


def exit_codes_page() -> str:
    """Every code, the error behind it, and what it says."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TspinError)
    ]
    raised = [
        (str(kind.exit_code), f"`{kind.__name__}`", docstring_text(kind.__doc__)) for kind in kinds
    ]
    rows = sorted([*raised, *_NO_ERROR], key=lambda row: int(row[0]))
    return _HEAD + table(("code", "error", "meaning"), rows) + _TAIL
