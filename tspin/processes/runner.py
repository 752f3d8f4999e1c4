"""Ending with whoever runs this command: DVC that is killed must not leave its stages running."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path

__all__ = ["end_with_runner"]

_STAGE = "DVC_STAGE"
"""DVC sets it for the commands that it runs."""
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh"}


def end_with_runner() -> None:
    """Send this process SIGTERM when the DVC that runs it, or a shell between them, has ended.

    Training then saves a checkpoint, and nothing writes into outputs that the next `dvc repro`
    makes anew. Without DVC, and where the system has no pidfd (Linux 5.3), nothing is watched.
    """
    if _STAGE not in os.environ or not hasattr(os, "pidfd_open"):
        return
    watched = []
    process = os.getppid()
    while True:
        try:
            watched.append(os.pidfd_open(process))
            name, parent = _name_and_parent(process)
        except OSError:  # It has ended already.
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if name not in _SHELLS or parent <= 1:
            break
        process = parent
    threading.Thread(target=_wait, args=(watched,), daemon=True).start()


def _name_and_parent(process: int) -> tuple[str, int]:
    status = Path(f"/proc/{process}/stat").read_text()
    name, _, rest = status.partition("(")[2].rpartition(")")
    return name, int(rest.split()[1])


def _wait(watched: list[int]) -> None:
    select.select(watched, [], [])
    os.kill(os.getpid(), signal.SIGTERM)
