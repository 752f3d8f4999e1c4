"""What is told to a tracker goes from a thread beside the work, which never waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tspin.errors import TspinError, redacted
from tspin.tracking.trackers import mlflow_address

__all__ = ["Told", "sending"]

log = logging.getLogger(__name__)

EVERY, _LONGEST = 5.0, 60.0
"""Seconds between two looks at the files, and between two tries of a server that is away."""
PATIENCE = 20.0
"""Seconds that a command waits for its last values to be sent."""


class Told(Protocol):
    """What a tracker is told. Everything comes from files, so any call may be made again."""

    def send(self) -> None:
        """Bring the tracker up to date with the files."""

    def unsent(self) -> list[str]:
        """What the files have and the tracker has not confirmed, in words."""

    def end(self, status: str) -> None:
        """Say how the work ended: FINISHED, FAILED or KILLED."""


@contextmanager
def sending(told: Told) -> Iterator[None]:
    """Keep a tracker up to date while the block works, and once more at its end.

    Nothing that the tracker does reaches the block: one that is away is said once, tried again
    ever less often, and gets what it missed when it is back. What it has not got at the end is
    named.

    Args:
        told: What there is to tell.
    """
    sender = _Sender(told)
    sender.thread.start()
    try:
        yield
    except BaseException as error:
        sender.end("KILLED" if _stopped(error) else "FAILED")
        raise
    else:
        sender.end("FINISHED")


def _stopped(error: BaseException) -> bool:
    """Whether somebody ended the work; 143 is the exit code of SIGTERM."""
    if isinstance(error, TspinError):
        return error.exit_code == 143
    return isinstance(error, KeyboardInterrupt | SystemExit)


class _Sender:
    def __init__(self, told: Told) -> None:
        self._told = told
        self._ended = threading.Event()
        self._status = ""
        self._away = False
        self._whole = False
        # A daemon: whatever the server does, the command ends.
        self.thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def end(self, status: str) -> None:
        """Send the last values, and wait for that as long as a command may wait."""
        self._status = status
        self._ended.set()
        self.thread.join(PATIENCE)
        if not self._whole:
            missing = "; ".join(self._told.unsent()) or "how the work ended"
            log.warning(
                "%s did not get: %s. The same command sends it when it is given again",
                mlflow_address(),
                missing,
            )

    def _run(self) -> None:
        wait = 0.0
        while not self._ended.wait(wait):
            wait = EVERY if self._sent() else min(max(wait, EVERY) * 2, _LONGEST)
        self._whole = self._sent(self._status)

    def _sent(self, status: str | None = None) -> bool:
        try:
            self._told.send()
            if status is not None:
                self._told.end(status)
        except Exception as error:  # noqa: BLE001  (whatever it is, the work goes on)
            if not self._away:
                log.warning(
                    "%s does not take what it is told; the work goes on, and it gets the rest when "
                    "it does again: %s",
                    mlflow_address(),
                    redacted(f"{type(error).__name__}: {error}")[:300],
                )
            self._away = True
            return False
        if self._away:
            log.info("%s answers again, and has got what it missed", mlflow_address())
        self._away = False
        return True
