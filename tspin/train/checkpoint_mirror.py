"""Checkpoints in a store as well, so that training continues on another machine."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from tspin.errors import TspinError
from tspin.files import remove
from tspin.store import open_store

__all__ = ["CheckpointMirror"]

log = logging.getLogger(__name__)

_STEP = re.compile(r"checkpoint-(\d+)/")
_MARKER = "complete"


class CheckpointMirror:
    """The last whole checkpoint of one training below a prefix of a store.

    `checkpoint-N/complete` is written after all files of the checkpoint; without it they count
    as not there.
    """

    def __init__(self, uri: str) -> None:
        """The prefix belongs to this training alone."""
        self._store = open_store(uri)

    def fetch(self, folder: Path, than: int) -> int | None:
        """Copy the newest whole checkpoint that is newer than a step into a folder.

        Args:
            folder: Gets `checkpoint-N`; whole once this function returns.
            than: The step of the newest one that is there already.

        Returns:
            Its step, or None if there is none that is newer.

        Raises:
            TspinError: the store cannot be reached, or sent other bytes.
        """
        keys = list(self._store.list("checkpoint-"))
        whole = [_step(key) for key in keys if key.endswith(f"/{_MARKER}")]
        if not whole or max(whole) <= than:
            return None
        step = max(whole)
        prefix = f"checkpoint-{step}/"
        remove(folder / prefix)
        for key in keys:
            if key.startswith(prefix) and not key.endswith(f"/{_MARKER}"):
                self._store.download(key, folder / key)
        log.info("training continues from the checkpoint of step %d in %s", step, self._store.uri)
        return step

    def push(self, checkpoint: Path) -> None:
        """Copy a whole checkpoint to the store, then drop older ones there.

        A store that cannot be reached does not end the training: the checkpoint on the disk is
        there, the one before is in the store, and the next one is tried again.
        """
        step = _step(f"{checkpoint.name}/")
        try:
            for path in sorted(checkpoint.rglob("*")):
                if path.is_file():
                    name = path.relative_to(checkpoint).as_posix()
                    self._store.upload(path, f"{checkpoint.name}/{name}")
            self._store.write(f"{checkpoint.name}/{_MARKER}", b"")
            self._drop(below=step)
        except TspinError as error:
            log.warning("the checkpoint of step %d is on this disk only: %s", step, error)

    def remove(self) -> None:
        """Delete all of it: the trained model is in place."""
        try:
            self._drop(below=None)
        except TspinError as error:
            log.warning("checkpoints that nobody needs are left in the store: %s", error)

    def _drop(self, below: int | None) -> None:
        keys = [
            key for key in self._store.list("checkpoint-") if below is None or _step(key) < below
        ]
        # Markers first: a kill half-way leaves a torn checkpoint, not one with gaps.
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{_MARKER}")):
            self._store.delete(key)


def _step(key: str) -> int:
    match = _STEP.match(key)
    if match is None:
        raise TspinError(f"{key}: not the key of a checkpoint")
    return int(match[1])
