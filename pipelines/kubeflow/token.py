"""Bearer tokens for the server: from a variable, a file or a command, and again when they age."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tspin.errors import InputError, TspinError

__all__ = ["TOKEN_VARIABLE", "Token", "find_token"]

TOKEN_VARIABLE = "KFP_TOKEN"  # noqa: S105  (the name, not the token)

_COMMAND_SECONDS = 60
_EARLY_SECONDS = 30
"""How long before its end a token is no longer sent: a request takes a while, clocks differ."""
_OPAQUE_SECONDS = 300
"""How long a token is sent that does not say when it ends; Kubernetes' last 10 minutes or more."""


class Token:
    """kfp's credentials, asked before each request; a token is kept until just before its end."""

    def __init__(self, source: Callable[[], str]) -> None:
        """Ask `source` at once: what is wrong with it is said before anything is sent."""
        self._source = source
        self._known: set[str] = set()
        self._ask()

    def __repr__(self) -> str:
        """Without the token."""
        return "Token()"

    def refresh_api_key_hook(self, config: Any) -> None:
        """Put a token that is still good into kfp's configuration."""
        if time.time() >= self._until:
            self._ask()
        config.api_key["authorization"] = self._value

    def forget(self) -> None:
        """Ask for another one at the next request: the server did not accept this one."""
        self._until = 0.0

    def hidden(self, text: str) -> str:
        """A text without any token that was sent: an answer may echo what it was asked with."""
        for token in self._known:
            text = text.replace(token, "***")
        return text

    def _ask(self) -> None:
        self._value = self._source()
        self._known.add(self._value)
        end = _end(self._value)
        self._until = time.time() + _OPAQUE_SECONDS if end is None else end - _EARLY_SECONDS


def find_token(file: Path | None, command: str | None) -> Token | None:
    """The token of a command, a file or the environment; None where none of them is given.

    Args:
        file: Is read again when the token ages: what mounts or renews it has replaced it by then.
        command: Run without a shell; prints the token.

    Raises:
        InputError: both are given, the file is not there or empty, or there is no such command.
        TspinError: the command failed.
    """
    if file is not None and command is not None:
        raise InputError("both --token-file and --token-command are given; expected one of them")
    if command is not None:
        return Token(partial(_printed, command))
    if file is not None:
        return Token(partial(_stored, file))
    value = os.environ.get(TOKEN_VARIABLE)
    return Token(lambda: value) if value else None


def _stored(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a bearer token for the server")
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise InputError(f"{file}: is empty; expected a bearer token for the server")
    return token


def _printed(command: str) -> str:
    try:
        words = shlex.split(command)
        done = subprocess.run(  # noqa: S603  (the user's own command, without a shell)
            words, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"--token-command {command!r} cannot be run: {error}") from None
    except subprocess.TimeoutExpired:
        took = f"took longer than {_COMMAND_SECONDS} s"
        raise TspinError(f"--token-command {command!r} {took}") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise TspinError(f"--token-command {command!r} failed ({done.returncode}): {last}")
    token = done.stdout.strip()
    if not token:
        raise TspinError(f"--token-command {command!r} printed nothing; expected a token")
    return token


def _end(token: str) -> float | None:
    """When a JSON Web Token ends, in seconds since 1970; None where it does not say."""
    try:
        payload = token.split(".")[1]
        padded = payload + "=" * (-len(payload) % 4)
        return float(json.loads(base64.urlsafe_b64decode(padded))["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
