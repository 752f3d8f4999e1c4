"""A process that works beside this one: it ends with this one, and is heard when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tspin.errors import TspinError
from tspin.processes.launch import StoppedError, killed_error, read_error
from tspin.processes.worker import run_worker

__all__ = ["Companion", "run_companion"]

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Where torch's `ErrorHandler` leaves an error."""
_PATIENCE = 30.0
"""Seconds that a process may take to end its own processes after SIGTERM."""


class Companion:
    """One process, from its start to its end; whoever starts it has to wait for it or to end it."""

    def __init__(
        self, module: str, argument: str, *, kind: str, environment: Mapping[str, str]
    ) -> None:
        """Start `python -m module argument`.

        Args:
            module: Calls `run_companion`.
            argument: Its one argument.
            kind: 'training' or 'evaluation', for messages.
            environment: What of the environment is other than here.
        """
        self._kind = kind
        self._folder = TemporaryDirectory(prefix="tspin-companion-")
        self._error = Path(self._folder.name) / "error.json"
        self._process = subprocess.Popen(  # noqa: S603  (no shell, and a module of this package)
            [sys.executable, "-m", module, argument],
            # Nobody writes to this pipe; that it closes is what the companion listens to.
            stdin=subprocess.PIPE,
            # Two bars on one terminal would write over each other: rich draws none there.
            env={**os.environ, "TTY_COMPATIBLE": "0", **environment, _ERROR_FILE: str(self._error)},
            # Ctrl-C is for the process that started it, which then ends this one.
            start_new_session=True,
        )

    def wait(self) -> None:
        """Return when the work is done.

        Raises:
            TspinError: it failed, with its message and of its kind; or it was killed, or stopped.
        """
        code = self._process.wait()
        try:
            if self._error.is_file():
                raise read_error(self._error, f"the {self._kind}")
            if code == -signal.SIGTERM:
                raise StoppedError(f"the {self._kind} was stopped by SIGTERM; run again to go on")
            if code < 0:
                raise killed_error(f"the {self._kind}'s process", code, self._kind)
            if code > 0:
                raise TspinError(f"the {self._kind}'s process ended with exit code {code}")
        finally:
            self._folder.cleanup()

    def end(self) -> None:
        """End it, if it has not ended yet; it and its own processes are gone when this returns."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_companion(work: Callable[[str], object]) -> None:
    """Do the work that a `Companion` was started for, and end when its starter has ended.

    Args:
        work: Gets the companion's argument.
    """
    threading.Thread(target=_end_with_starter, daemon=True).start()
    run_worker(work)


def _end_with_starter() -> None:
    # Linux kills this process as well (`run_worker`), but only once it has asked for that: a
    # starter that is killed while Python starts here would be outlived.
    os.read(0, 1)  # Not sys.stdin: its lock, held in a daemon thread, breaks Python's end.
    os.kill(os.getpid(), signal.SIGKILL)
