"""Checkpoints of one training, whole ones only."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from tspin.checkpoints.mirror import CheckpointMirror
from tspin.checkpoints.state import WHOLE, own_files
from tspin.errors import InputError, TspinError
from tspin.files import atomic_file, read_object, remove, sync, write_json
from tspin.release import newer_format

__all__ = ["Checkpoints"]

log = logging.getLogger(__name__)

_STEP = re.compile(r"checkpoint-(\d+)")
_KEY = "key.json"
_LOCK = "lock"
_BEGUN = "begun.json"
_FORMAT = 2
"""Of a checkpoint, in its marker. Format 1 had pickles, and the weights in files of their own."""
_PICKLED_ARGUMENTS = "training_args.bin"


class Checkpoints:
    """A folder of `checkpoint-N`, each with a marker once all processes have written their part.

    `key.json` says what work they belong to: the inputs' hashes and the parameters. Checkpoints
    of other work are removed, never resumed.
    """

    def __init__(
        self, path: Path, key: dict[str, Any], mirror: CheckpointMirror | None = None
    ) -> None:
        self.path = path
        self._key = key
        self.mirror = mirror

    @property
    def begun(self) -> Path:
        """What the training was begun with (`tspin.models.threads`); each checkpoint has it too."""
        return self.path / _BEGUN

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder as its one writer, cleared of torn checkpoints and those of other work.

        Raises:
            TspinError: another process trains into this folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise TspinError(
                f"{self.path}: another process is training into this folder; wait for it, or stop "
                "it and run again to continue from its last checkpoint"
            ) from None
        try:
            self._clear()
            self._fetch()
            yield
        finally:
            lock.release()

    def last(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        whole = {step: path for step, path in self._steps().items() if _is_whole(path)}
        return whole[max(whole)] if whole else None

    def folder(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.path / f"checkpoint-{step}"

    def sync(self, step: int, rank: int) -> None:
        """Flush a process's own part of the checkpoint of a step: no other one can."""
        for path in own_files(self.folder(step), rank):
            sync(path)

    def finish(self, step: int, *, kept: int | None = None) -> None:
        """Mark the checkpoint of a step as whole, once all parts are on the disk; drop older ones.

        The order matters: a kill at any point leaves at least one whole checkpoint.

        Args:
            step: After which every process has written and flushed its part.
            kept: The step of an older one that is still being copied.
        """
        folder = self.folder(step)
        # transformers pickles its arguments there. Nothing reads them, and pickles can run code.
        (folder / _PICKLED_ARGUMENTS).unlink(missing_ok=True)
        if self.begun.is_file():
            shutil.copyfile(self.begun, folder / _BEGUN)
            sync(folder / _BEGUN)
        sync(folder)
        sync(self.path)
        write_json(folder / WHOLE, {"step": step, "format": _FORMAT})
        for number, older in self._steps().items():
            if number < step and number != kept:
                _remove_checkpoint(older)

    def remove(self) -> None:
        """Delete the folder and what is copied of it: the trained model is in place.

        The key goes last: by it `remove_finished` knows what a kill leaves half deleted.
        """
        if self.mirror is not None:
            self.mirror.remove()
        for path in self.path.iterdir():
            if path.name != _KEY:
                remove(path)
        remove(self.path)

    def remove_finished(self) -> None:
        """Delete what a kill left between a training's end and the deletion of its folder.

        To be called where the trained model is in place. A folder of other work stays, and so does
        one that a process holds, which deletes it itself.
        """
        key = self.path / _KEY
        if not key.is_file() or orjson.loads(key.read_bytes()) != self._key:
            return
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return
        try:
            self.remove()
        finally:
            lock.release()

    def _fetch(self) -> None:
        """Take over where another machine stopped."""
        if self.mirror is None:
            return
        step = self.mirror.fetch(self.path, than=max(self._steps(), default=0))
        if step is None:
            return
        folder = self._steps()[step]
        write_json(folder / WHOLE, {"step": step, "format": _FORMAT})
        if (folder / _BEGUN).is_file():
            with atomic_file(self.begun) as file:
                file.write((folder / _BEGUN).read_bytes())

    def _clear(self) -> None:
        key = self.path / _KEY
        steps = self._steps()
        if not key.is_file() or orjson.loads(key.read_bytes()) != self._key:
            if steps:
                log.warning(
                    "%s: removing checkpoints of another training (other inputs or parameters)",
                    self.path,
                )
            for folder in steps.values():
                _remove_checkpoint(folder)
            write_json(key, self._key)
            return
        for folder in steps.values():
            if not _is_whole(folder):
                log.warning("%s: removing a checkpoint that is unfinished or too old", folder)
                remove(folder)

    def _steps(self) -> dict[int, Path]:
        matches = ((_STEP.fullmatch(path.name), path) for path in self.path.iterdir())
        return {int(match[1]): path for match, path in matches if match}


def _is_whole(folder: Path) -> bool:
    marker = folder / WHOLE
    if not marker.is_file():
        return False
    written = read_object(marker).get("format")
    if newer := newer_format(written, _FORMAT):  # Not torn: it must not be taken for that.
        raise InputError(f"{marker}: {newer}")
    return written == _FORMAT


def _remove_checkpoint(folder: Path) -> None:
    # The marker first: a kill half-way through leaves a torn checkpoint, not one with gaps.
    (folder / WHOLE).unlink(missing_ok=True)
    remove(folder)
