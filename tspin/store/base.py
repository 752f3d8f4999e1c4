"""What every store can do, and how it says that it could not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tspin.errors import InputError, TspinError

__all__ = ["ConflictError", "DamagedError", "KeyMissingError", "Store", "checked_key"]


class KeyMissingError(TspinError):
    """There is no object of this key."""


class ConflictError(TspinError):
    """An object of this key is there already, written by someone else."""


class DamagedError(TspinError):
    """Other bytes arrived than were sent."""


class Store(Protocol):
    """Objects by key. Each appears whole or not at all; keys are relative, with slashes."""

    uri: str
    """Of the store, without a slash at its end."""

    def read(self, key: str) -> bytes:
        """The content of a small object.

        Raises:
            KeyMissingError: there is none.
            TspinError: the store cannot be reached, or denies it.
        """

    def write(self, key: str, data: bytes) -> None:
        """Write a small object, in place of one that is there.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """

    def create(self, key: str, data: bytes, *, same: bool = False) -> None:
        """Write a small object unless there is one of this key: of many writers one succeeds.

        Args:
            key: Of the object.
            data: Its content.
            same: Every writer brings these bytes: who was first is not waited for where a
                server decides late.

        Raises:
            ConflictError: there is one, with other bytes.
            InputError: the store cannot tell.
            TspinError: the store cannot be reached, or denies it.
        """

    def create_from(self, path: Path, key: str) -> None:
        """As `create`, with the content of a file, in parts where it is large.

        Raises:
            ConflictError: there is one, with other bytes.
            TspinError: the store cannot be reached, or denies it.
        """

    def sha256(self, key: str) -> str:
        """Hex SHA-256 of an object's bytes, all of which are read.

        Raises:
            KeyMissingError: there is none.
            TspinError: the store cannot be reached, or denies it.
        """

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with a prefix, sorted.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """

    def versions(self, prefix: str = "") -> dict[str, str]:
        """By key what changes when the object does (an ETag), for keys that begin with a prefix.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """

    def delete(self, key: str) -> None:
        """Remove an object if there is one.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object, in parts where it is large, with its SHA-256.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file, which appears once its SHA-256 is right.

        Raises:
            KeyMissingError: there is none.
            TspinError: the store cannot be reached, denies it, or sent other bytes.
        """


def checked_key(key: str) -> str:
    """The key, if it stays inside of the store.

    Raises:
        InputError: it is empty, absolute, or climbs up.
    """
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key:
        raise InputError(f"key {key!r}: expected a relative path without '.', '..' and '//'")
    return key
