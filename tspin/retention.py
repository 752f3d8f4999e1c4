"""What nobody needs any more on a shared volume: old runs, checkpoints of abandoned trainings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tspin.errors import InputError
from tspin.files import remove

__all__ = ["clean_checkpoints", "clean_runs"]

_DAY = 86400.0
_LOCK = "lock"
_GOING = ".cleaned-"
"""Before the name of a folder that is being deleted; a kill leaves it to the next time."""


def clean_runs(
    folder: Path, *, days: float, keep: int, prefix: str = "", dry: bool = False
) -> list[Path]:
    """Delete the run folders below a folder in which nothing has changed for a while.

    Only what `tspin run` made is deleted: a folder with its config.json and iterations.

    Args:
        folder: Its entries are looked at, not those below them.
        days: Since the newest file of a run was written.
        keep: So many of the newest runs stay, however old.
        prefix: Only runs whose name begins so.
        dry: Delete nothing.

    Returns:
        What was deleted, or would be.

    Raises:
        InputError: there is no such folder.
    """
    runs = [path for path in _entries(folder) if path.name.startswith(prefix) and _is_run(path)]
    newest = sorted(runs, key=_written, reverse=True)
    expired = [path for path in newest[keep:] if _age(path) > days * _DAY]
    if not dry:
        for path in expired:
            _delete(path)
        _finish(folder)
    return expired


def clean_checkpoints(folder: Path, *, days: float, dry: bool = False) -> list[Path]:
    """Delete the checkpoints of trainings that nobody has continued for a while.

    A training deletes its checkpoints when its model is in place. What stays is of trainings that
    were given up: another configuration, other data.

    Args:
        folder: `system.checkpoints`.
        days: Since the last checkpoint.
        dry: Delete nothing.

    Returns:
        What was deleted, or would be.

    Raises:
        InputError: there is no such folder.
    """
    abandoned = [path for path in _entries(folder) if (path / "key.json").is_file()]
    expired = [path for path in abandoned if _age(path) > days * _DAY and not _is_held(path)]
    if not dry:
        for path in expired:
            _delete(path)
        _finish(folder)
    return expired


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    entries = sorted(folder.iterdir())
    return [path for path in entries if path.is_dir() and not path.is_symlink()]


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file() and any(path.glob("iter-[0-9]*"))


def _files(path: Path) -> Iterator[Path]:
    """All but the lock: looking whether somebody holds it writes it."""
    files = (entry for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())
    return (file for file in files if file.name != _LOCK)


def _written(path: Path) -> float:
    return max((file.stat().st_mtime for file in _files(path)), default=path.stat().st_mtime)


def _age(path: Path) -> float:
    return time.time() - _written(path)


def _is_held(path: Path) -> bool:
    """Whether a training is at work there."""
    try:
        with FileLock(path / _LOCK, blocking=False):
            return False
    except Timeout:
        return True


def _delete(path: Path) -> None:
    going = path.with_name(f"{_GOING}{path.name}")
    remove(going)
    path.rename(going)
    remove(going)


def _finish(folder: Path) -> None:
    for left in folder.glob(f"{_GOING}*"):
        remove(left)
