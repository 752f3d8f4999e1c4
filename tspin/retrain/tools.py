"""git, dvc and pipelines as commands: this library imports none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tspin.errors import TspinError

__all__ = ["output_of", "show"]

_LINES = 12


def output_of(folder: Path, *command: str) -> str:
    """What a command prints.

    Raises:
        TspinError: it failed; with the last lines that it printed.
    """
    try:
        done = subprocess.run(  # noqa: S603  (no shell, and commands of this package)
            command, cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise TspinError(f"{command[0]} is not installed here") from None
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LINES:])
        raise TspinError(f"{' '.join(command)} failed ({done.returncode}):\n{last}")
    return done.stdout


def show(folder: Path, *command: str) -> int:
    """Run a command whose output goes where ours goes; its exit code."""
    sys.stdout.flush()
    try:
        return subprocess.run(command, cwd=folder, check=False).returncode  # noqa: S603  (as above)
    except FileNotFoundError:
        raise TspinError(f"{command[0]} is not installed here") from None
