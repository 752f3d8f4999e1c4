"""Where something lies: a path on this machine, or `s3://bucket/key`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tspin.errors import InputError
from tspin.files import expanded
from tspin.store.base import Store
from tspin.store.opening import open_store

__all__ = ["RemoteLocation", "cache_folder", "exists", "is_remote", "working_folder"]


def is_remote(location: str | Path) -> bool:
    """Whether a location is none of this machine's paths."""
    return "://" in str(location)


def cache_folder() -> Path:
    """Where copies of remote objects are kept: TSPIN_CACHE, or tspin in the user's cache folder."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tspin"
    named = os.environ.get("TSPIN_CACHE")
    return Path(expanded(named)) if named else usual


def working_folder(location: str) -> Path:
    """The disk that work on a location fills: its own, or that of the cache."""
    return cache_folder() if is_remote(location) else Path(location)


@dataclass(frozen=True)
class RemoteLocation:
    """A file or folder in a store, taken apart."""

    uri: str
    store: Store
    """Of what it lies in."""
    name: str

    @classmethod
    def of(cls, uri: str) -> RemoteLocation:
        """Take a URI apart; nothing is read yet.

        Raises:
            InputError: it names a bucket and nothing in it, or another kind of store.
        """
        parent, _, name = uri.rstrip("/").rpartition("/")
        if parent.endswith((":/", ":")) or not name:
            raise InputError(f"{uri}: names a bucket only; expected s3://bucket/key")
        return cls(uri.rstrip("/"), open_store(parent), name)

    @property
    def key(self) -> str:
        """A name for folders that belong to this location alone."""
        return hashlib.sha256(self.uri.encode()).hexdigest()[:16]

    def versions(self) -> dict[str, str]:
        """ETags of the file, its manifest, and what is in the folder, by key in the store.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """
        versions = self.store.versions(self.name)
        return {key: version for key, version in versions.items() if self._is_mine(key)}

    def _is_mine(self, key: str) -> bool:
        return key in (self.name, f"{self.name}.manifest.json") or key.startswith(f"{self.name}/")


def exists(location: str) -> bool:
    """Whether there is a file or folder, here or in a store.

    Raises:
        TspinError: the store cannot be reached, or denies it.
    """
    if not is_remote(location):
        return Path(location).exists()
    remote = RemoteLocation.of(location)
    return any(not key.endswith(".manifest.json") for key in remote.versions())
