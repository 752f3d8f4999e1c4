"""The errors that end a command, each with its exit code."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["GateRefusedError", "InputError", "TspinError", "located", "redacted"]

# What gives rights to whoever reads it. User info of a URL ends at its last `@`: a password may
# hold what a URL should not.
_SECRETS = (
    re.compile(r"(?i)(?P<kept>\b(?:https?|socks\w*)://)[^\s'\"<>]*(?=@)"),
    re.compile(
        r"(?i)(?P<kept>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-amz-security-token"
        r"|x-auth-token|x-api-key)[\"']?\s*[:=][\s\[\"']*)[^\s\"'\],}][^\"'\],}\r\n]*"
    ),
    re.compile(r"(?i)(?P<kept>\b(?:bearer|basic) )[\w.~+/=-]{16,}"),
    re.compile(r"(?i)(?P<kept>[?&](?:sig|[\w-]*signature|[\w-]*token)=)[^&\s'\"<>]+"),
)


def redacted(text: str) -> str:
    """A text without user info in its URLs, and without credentials that a server echoed."""
    for secret in _SECRETS:
        text = secret.sub(r"\g<kept>***", text)
    return text


class TspinError(Exception):
    """The work failed. Shown as one message without a traceback; exit code 1.

    Addresses and answers of servers come into messages in many places, and into all that quotes
    them; secrets are taken out in this one.
    """

    exit_code = 1

    def __str__(self) -> str:
        """The message, redacted."""
        return redacted(super().__str__())


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
