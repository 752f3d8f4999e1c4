"""A folder as a store: a disk, or a volume that several machines mount."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from tspin.files import atomic_file, sha256_file, sync
from tspin.store.base import ConflictError, KeyMissingError, checked_key

__all__ = ["FolderStore"]


class FolderStore:
    """Objects are files; see `tspin.store.base.Store`."""

    def __init__(self, folder: Path) -> None:
        """The folder need not exist yet."""
        self._folder = folder
        self.uri = str(folder)

    def read(self, key: str) -> bytes:
        """The content of a small object."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyMissingError(f"{self.uri}/{key}: no such object") from None

    def write(self, key: str, data: bytes) -> None:
        """Write a small object, in place of one that is there."""
        with atomic_file(self._path(key)) as file:
            file.write(data)

    def create(self, key: str, data: bytes, *, same: bool = False) -> None:
        """Write a small object unless there is one: a hard link is made by one of many.

        Args:
            key: Of the object.
            data: Its content.
            same: See `tspin.store.base.Store.create`.
        """
        self._link(io.BytesIO(data), key)

    def create_from(self, path: Path, key: str) -> None:
        """As `create`, with the content of a file."""
        with path.open("rb") as source:
            self._link(source, key)

    def _link(self, source: IO[bytes], key: str) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
            try:
                os.link(file.name, path)
            except FileExistsError:
                if sha256_file(path) == sha256_file(Path(file.name)):
                    return
                raise ConflictError(f"{self.uri}/{key}: is there already") from None
        sync(path.parent)

    def sha256(self, key: str) -> str:
        """Hex SHA-256 of an object's bytes."""
        try:
            return sha256_file(self._path(key))
        except FileNotFoundError:
            raise KeyMissingError(f"{self.uri}/{key}: no such object") from None

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with a prefix, sorted; temporary files are none."""
        return iter(sorted(self.versions(prefix)))

    def versions(self, prefix: str = "") -> dict[str, str]:
        """Time and size of the files whose keys begin with a prefix."""
        versions = {}
        for path in self._folder.rglob("*"):
            key = path.relative_to(self._folder).as_posix()
            if path.is_file() and path.name[0] != "." and key.startswith(prefix):
                status = path.stat()
                versions[key] = f"{status.st_mtime_ns}-{status.st_size}"
        return versions

    def delete(self, key: str) -> None:
        """Remove an object if there is one."""
        self._path(key).unlink(missing_ok=True)

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, atomic_file(target) as file:
            shutil.copyfileobj(source, file)

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file."""
        source = self._path(key)
        if not source.is_file():
            raise KeyMissingError(f"{self.uri}/{key}: no such object")
        with source.open("rb") as data, atomic_file(path) as file:
            shutil.copyfileobj(data, file)

    def _path(self, key: str) -> Path:
        return self._folder / checked_key(key)
