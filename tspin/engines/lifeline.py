"""Ends an engine's processes when the process that started them is gone, however it went.

vLLM computes in processes of its own. They outlive a parent that is killed, and keep the GPU's
memory, so that the same command started again would find none. A small process stands beside them:
it reads a pipe that nobody writes to, and when that pipe closes it kills every process with the
engine's mark. (`python -m tspin.engines.lifeline MARK`; Linux only, for /proc.)
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Lifeline"]

_PAUSE = 0.05
_PATIENCE = 30.0
"""Seconds after which processes that do not end, such as those stuck in a driver, are given up."""


class Lifeline:
    """Guards the processes of one engine.

    Attributes:
        mark: Stands in the environment or the title of every process to guard, and nowhere else.
    """

    def __init__(self) -> None:
        self.mark = f"tspin-{secrets.token_hex(8)}"
        command = [sys.executable, "-m", __name__, self.mark]
        # A session of its own: Ctrl-C and a killed process group must not end it first.
        self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def cut(self) -> None:
        """End all processes with the mark; when this returns they are gone."""
        self._watcher.communicate()


def _end_all(mark: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (processes := _marked(mark)) and time.monotonic() < deadline:
        for process in processes:
            _kill(process)
        time.sleep(_PAUSE)


def _marked(mark: str) -> list[int]:
    """Processes with the mark, other than this one; ended ones that nobody waited for have none."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [number for number in numbers if number != os.getpid() and _has_mark(number, mark)]


def _has_mark(process: int, mark: str) -> bool:
    # vLLM writes its processes' titles over their environment, and puts the mark into the title.
    try:
        texts = [Path(f"/proc/{process}/{name}").read_bytes() for name in ("environ", "cmdline")]
    except OSError:  # Gone by now, or another user's.
        return False
    return any(mark.encode() in text for text in texts)


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.stdin.read()
    _end_all(sys.argv[1])
