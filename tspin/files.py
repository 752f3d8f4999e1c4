"""Files and folders that appear whole or not at all, and their content hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson

from tspin.errors import InputError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "expanded",
    "read_object",
    "remove",
    "sha256_file",
    "sha256_folder",
    "sha256_listed",
    "sync",
    "write_json",
]

_BLOCK = 1 << 20


def expanded(location: str) -> str:
    """A path with `~` and `~user` as the folders that they stand for; a URI stays as it is.

    Done once, where a path comes in: by the options of commands and by the configuration.
    """
    first, slash, rest = location.partition("/")
    if not first.startswith("~"):
        return location
    try:
        return f"{Path(first).expanduser()}{slash}{rest}"
    except RuntimeError:  # There is no such user: a name that begins with `~`.
        return location


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a folder tree if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    # A fixed name: what a killed run left behind is overwritten by the next, never piled up.
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` when the block ends without an error.

    Written under a temporary name in the same folder, fsynced, renamed. On an error the
    temporary file is removed and `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends without an error.

    An existing `path` is replaced. Every file is fsynced before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            sync(entry)
        sync(temporary)
        remove(path)
        temporary.rename(path)
    except BaseException:
        remove(temporary)
        raise
    sync(path.parent)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        InputError: something else stands there.
    """
    try:
        values = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, found {values!r:.80}")
    return values


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    with atomic_file(path) as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_folder(path: Path, *patterns: str) -> str:
    """Hex SHA-256 over the relative names and contents of the files that match any pattern."""
    names = {entry for pattern in patterns for entry in path.rglob(pattern) if entry.is_file()}
    return sha256_listed({e.relative_to(path).as_posix(): sha256_file(e) for e in names})


def sha256_listed(files: Mapping[str, str]) -> str:
    """As `sha256_folder`, of files whose hashes are known.

    Args:
        files: Relative name to hex SHA-256.
    """
    lines = (f"{files[name]}  {name}\n" for name in sorted(files, key=PurePosixPath))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
