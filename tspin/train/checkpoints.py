"""Checkpoints of one training, whole ones only, and their copies in a store."""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import torch
import torch.distributed
from filelock import FileLock, Timeout
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tspin.errors import TspinError
from tspin.files import atomic_file, remove, sync, write_json
from tspin.store import open_store
from tspin.train.launch import Termination, any_process

__all__ = ["CheckpointCallback", "CheckpointMirror", "Checkpoints"]

log = logging.getLogger(__name__)


_KEY_STEP = re.compile(r"checkpoint-(\d+)/")
_MIRROR_MARKER = "complete"


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
        whole = [_step(key) for key in keys if key.endswith(f"/{_MIRROR_MARKER}")]
        if not whole or max(whole) <= than:
            return None
        step = max(whole)
        prefix = f"checkpoint-{step}/"
        remove(folder / prefix)
        for key in keys:
            if key.startswith(prefix) and not key.endswith(f"/{_MIRROR_MARKER}"):
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
            self._store.write(f"{checkpoint.name}/{_MIRROR_MARKER}", b"")
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
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{_MIRROR_MARKER}")):
            self._store.delete(key)


def _step(key: str) -> int:
    match = _KEY_STEP.match(key)
    if match is None:
        raise TspinError(f"{key}: not the key of a checkpoint")
    return int(match[1])


_STEP = re.compile(r"checkpoint-(\d+)")
_MARKER = "complete.json"
_KEY = "key.json"
_LOCK = "lock"
_BEGUN = "begun.json"
_PICKLED_ARGUMENTS = "training_args.bin"


class Checkpoints:
    """A folder of `checkpoint-N` as transformers writes them, each with a marker once it is whole.

    `key.json` says what work they belong to: the inputs' hashes and the parameters. Checkpoints
    of other work are removed, never resumed.
    """

    def __init__(
        self, path: Path, key: dict[str, Any], mirror: CheckpointMirror | None = None
    ) -> None:
        self.path = path
        self._key = key
        self._mirror = mirror

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

    def finish(self, step: int) -> None:
        """Mark the checkpoint of a step as whole, once its bytes are on the disk; drop older ones.

        The order matters: a kill at any point leaves at least one whole checkpoint.
        """
        steps = self._steps()
        folder = steps[step]
        # transformers pickles its arguments there. Nothing reads them, and pickles can run code.
        (folder / _PICKLED_ARGUMENTS).unlink(missing_ok=True)
        if self.begun.is_file():
            shutil.copyfile(self.begun, folder / _BEGUN)
        for entry in sorted(folder.rglob("*")):
            sync(entry)
        sync(self.path)
        write_json(folder / _MARKER, {"step": step})
        if self._mirror is not None:
            self._mirror.push(folder)
        for older in (path for number, path in steps.items() if number < step):
            _remove_checkpoint(older)

    def remove(self) -> None:
        """Delete the folder: the trained model is in place."""
        remove(self.path)
        if self._mirror is not None:
            self._mirror.remove()

    def _fetch(self) -> None:
        """Take over where another machine stopped."""
        if self._mirror is None:
            return
        step = self._mirror.fetch(self.path, than=max(self._steps(), default=0))
        if step is None:
            return
        folder = self._steps()[step]
        write_json(folder / _MARKER, {"step": step})
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
                log.warning("%s: removing an unfinished checkpoint", folder)
                remove(folder)

    def _steps(self) -> dict[int, Path]:
        matches = ((_STEP.fullmatch(path.name), path) for path in self.path.iterdir())
        return {int(match[1]): path for match, path in matches if match}


def _is_whole(folder: Path) -> bool:
    return (folder / _MARKER).is_file()


def _remove_checkpoint(folder: Path) -> None:
    # The marker first: a kill half-way through leaves a torn checkpoint, not one with gaps.
    (folder / _MARKER).unlink(missing_ok=True)
    remove(folder)


class CheckpointCallback(TrainerCallback):
    """Marks each checkpoint that the trainer has written, and stops after one on SIGTERM.

    The trainer itself counts steps between checkpoints; this counts minutes as well. Which step
    that is decides nothing but what a kill costs: a continuation ends with the same bytes.
    """

    def __init__(
        self, checkpoints: Checkpoints, termination: Termination, minutes: float | None
    ) -> None:
        """Count from now on.

        Args:
            checkpoints: Where they are.
            termination: Whether somebody asked this training to stop.
            minutes: Between two checkpoints at most; None leaves it to the trainer's steps.
        """
        self._checkpoints = checkpoints
        self._termination = termination
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._saved = monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the checkpoint once every process has written its part."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if args.should_save:
            self._checkpoints.finish(state.global_step)
        self._saved = monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint where it is time, or somebody asked this training to stop."""
        due = monotonic() - self._saved >= self._seconds
        stop, due = any_process(args.device, self._termination.requested, due)
        control.should_save |= due
        if stop:
            log.warning("SIGTERM: saving a checkpoint at step %d", state.global_step)
            self._termination.stopped_at = state.global_step
            control.should_save = control.should_training_stop = True
