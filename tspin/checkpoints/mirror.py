"""Copies of checkpoints in a store, pushed beside the training by whoever wrote each part."""

from __future__ import annotations

import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tspin.checkpoints.state import own_files
from tspin.errors import TspinError
from tspin.files import remove
from tspin.store import open_store

__all__ = ["CheckpointMirror"]

log = logging.getLogger(__name__)

_KEY = re.compile(r"checkpoint-(\d+)/of-(\d+)/(.+)")
_MARKER = re.compile(r"complete-(\d+)")


class CheckpointMirror:
    """The last whole checkpoint of one training below a prefix of a store.

    Process R of W writes `checkpoint-N/of-W/complete-R` after all of its files. A checkpoint counts
    as there once all W have, so no process waits for another one's push.
    """

    def __init__(self, uri: str, *, rank: int = 0, processes: int = 1) -> None:
        """The prefix belongs to this training alone.

        Args:
            uri: The prefix.
            rank: Of this process, which pushes the files that it wrote.
            processes: How many there are.
        """
        self._store = open_store(uri)
        self._rank, self._processes = rank, processes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-mirror")
        self._push: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether this process is still pushing a checkpoint."""
        return self._push is not None and not self._push.done()

    def start(self, checkpoint: Path) -> None:
        """Begin to push this process's part of a checkpoint, once the push before has ended.

        Args:
            checkpoint: Whole; it has to stay until `busy` is over in all processes.
        """
        self.settle()
        self._push = self._thread.submit(self.push, checkpoint)

    def settle(self) -> None:
        """Wait until nothing is being pushed.

        Raises:
            Exception: what ended the push, if it was not the store.
        """
        if self._push is not None:
            self._push.result()
            self._push = None

    def push(self, checkpoint: Path) -> None:
        """Copy this process's part of a checkpoint to the store; the first drops older ones there.

        A store that cannot be reached does not end the training: the checkpoint on the disk is
        there, the one before is in the store, and the next one is tried again.
        """
        prefix = f"{checkpoint.name}/of-{self._processes}"
        marker = f"{prefix}/complete-{self._rank}"
        try:
            self._store.delete(marker)  # Of a training that was killed and comes here again.
            for path in own_files(checkpoint, self._rank):
                self._store.upload(path, f"{prefix}/{path.relative_to(checkpoint).as_posix()}")
            self._store.write(marker, b"")
            # The first process drops what is older than the newest whole one, which can be the
            # one before as long as others still push.
            if self._rank == 0:
                whole = _whole(self._keys())
                self._drop(below=max((step for step, _ in whole), default=0))
        except TspinError as error:
            log.warning("%s is on this disk only: %s", checkpoint.name, error)

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
        keys = self._keys()
        whole = _whole(keys)
        if not whole or max(whole)[0] <= than:
            return None
        step, processes = max(whole)
        target = folder / f"checkpoint-{step}"
        remove(target)
        for key in keys:
            if (key.step, key.processes) == (step, processes) and key.marks is None:
                self._store.download(key.name, target / key.file)
        log.info("training continues from the checkpoint of step %d in %s", step, self._store.uri)
        return step

    def remove(self) -> None:
        """Delete all of it: the trained model is in place."""
        try:
            self._drop(below=None)
        except TspinError as error:
            log.warning("checkpoints that nobody needs are left in the store: %s", error)

    def _keys(self) -> list[_Key]:
        names = self._store.list("checkpoint-")
        return [
            _Key(name, int(match[1]), int(match[2]), match[3])
            for name in names
            if (match := _KEY.fullmatch(name)) is not None
        ]

    def _drop(self, below: int | None) -> None:
        keys = [key for key in self._keys() if below is None or key.step < below]
        # Markers first: a kill half-way leaves a torn checkpoint, not one with gaps.
        for key in sorted(keys, key=lambda key: key.marks is None):
            self._store.delete(key.name)


@dataclass(frozen=True)
class _Key:
    name: str
    step: int
    processes: int
    """Of the training that pushed it."""
    file: str

    @property
    def marks(self) -> int | None:
        """The process whose part is there, if this is a marker."""
        match = _MARKER.fullmatch(self.file)
        return None if match is None else int(match[1])


def _whole(keys: list[_Key]) -> set[tuple[int, int]]:
    """Step and number of processes of each checkpoint that all of them have pushed."""
    ranks: dict[tuple[int, int], set[int]] = {}
    for key in keys:
        if key.marks is not None:
            ranks.setdefault((key.step, key.processes), set()).add(key.marks)
    return {place for place, there in ranks.items() if there == set(range(place[1]))}
