"""What stands where an output is to go: on this machine, or in a store."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from pydantic import ValidationError

from tspin.errors import InputError
from tspin.records.arithmetic import begun_path
from tspin.records.manifest import (
    Manifest,
    making_path,
    manifest_path,
    parse_manifest,
    read_manifest,
)
from tspin.store.base import KeyMissingError
from tspin.store.location import RemoteLocation, is_remote
from tspin.store.publishing import making_key

__all__ = ["LocalStanding", "Standing", "standing_at"]


class Standing(Protocol):
    """A file or folder that an output would meet; it may be missing."""

    @property
    def exists(self) -> bool:
        """Whether there is anything, be it a link to nothing."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""

    @property
    def on_its_way(self) -> bool:
        """Whether a step of ours, which was killed, left word that it was making this."""

    def names(self) -> list[str]:
        """Of the entries of a folder, without those below them."""

    def read(self, name: str = "") -> bytes | None:
        """The content of the file, or of one in the folder; None where there is none."""

    def manifest(self) -> Manifest | None:
        """The manifest beside it.

        Raises:
            InputError: it is damaged, or what stands there was changed after it was made.
        """

    def foreign_manifest(self) -> str | None:
        """Where nothing stands: whether what stands in its manifest's place is no manifest."""

    def move_aside(self) -> str:
        """Give it, and its manifest, another name; returns that."""


class LocalStanding:
    """A path of this machine."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path if path.name not in ("", "..") else path.resolve()

    @property
    def exists(self) -> bool:
        """Whether there is anything, be it a link to nothing."""
        return os.path.lexists(self.path)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @property
    def on_its_way(self) -> bool:
        """Whether a step of ours, which was killed, left word that it was making this."""
        return making_path(self.path).is_file() or begun_path(self.path).is_file()

    def names(self) -> list[str]:
        """Of the entries of a folder, without those below them."""
        return sorted(path.name for path in self.path.iterdir()) if self.is_folder else []

    def read(self, name: str = "") -> bytes | None:
        """The content of the file, or of one in the folder; None where there is none."""
        path = self.path / name if name else self.path
        return path.read_bytes() if path.is_file() else None

    def manifest(self) -> Manifest | None:
        """The manifest beside it."""
        return read_manifest(self.path)

    def foreign_manifest(self) -> str | None:
        """Where nothing stands: whether what stands in its manifest's place is no manifest."""
        beside = manifest_path(self.path)
        if not os.path.lexists(beside):
            return None
        try:
            Manifest.model_validate_json(beside.read_bytes())
        except (ValidationError, OSError):
            return f"gets a manifest, and {beside.name} is there already and is none"
        return None

    def move_aside(self) -> str:
        """Give it, and its manifest, another name; returns that."""
        target = self.path.with_name(_replaced(self.path.name))
        while os.path.lexists(target):  # Twice in a second.
            target = target.with_name(f"{target.name}+")
        beside = manifest_path(self.path)
        if self.exists:
            self.path.rename(target)
        if os.path.lexists(beside):
            beside.rename(manifest_path(target))
        return str(target)


class _RemoteStanding:
    def __init__(self, uri: str) -> None:
        self._remote = RemoteLocation.of(uri)

    @cached_property
    def _keys(self) -> list[str]:
        return sorted(self._remote.versions())

    @property
    def _name(self) -> str:
        return self._remote.name

    @property
    def exists(self) -> bool:
        return any(key != f"{self._name}.manifest.json" for key in self._keys)

    @property
    def is_folder(self) -> bool:
        return any(key.startswith(f"{self._name}/") for key in self._keys)

    @property
    def on_its_way(self) -> bool:
        try:
            self._remote.store.read(making_key(self._name))
        except KeyMissingError:
            return False
        return True

    def names(self) -> list[str]:
        below = (key.removeprefix(f"{self._name}/") for key in self._keys if key != self._name)
        return sorted({key.partition("/")[0] for key in below})

    def read(self, name: str = "") -> bytes | None:
        key = f"{self._name}/{name}" if name else self._name
        return self._remote.store.read(key) if key in self._keys else None

    def manifest(self) -> Manifest | None:
        key = f"{self._name}.manifest.json"
        if key not in self._keys:
            return None
        return parse_manifest(self._remote.store.read(key), f"{self._remote.store.uri}/{key}")

    def foreign_manifest(self) -> str | None:
        if not self._keys:
            return None
        try:
            self.manifest()
        except InputError:
            return f"gets a manifest, and {self._name}.manifest.json is there already and is none"
        return None

    def move_aside(self) -> str:
        """Copy object by object: a store has no other way. The manifest goes first and last."""
        store, target = self._remote.store, _replaced(self._name)
        keys = sorted(self._keys, key=lambda key: key.endswith(".manifest.json"))
        with TemporaryDirectory(prefix="tspin-aside-") as folder:
            for key in keys:
                copy = Path(folder) / "object"
                store.download(key, copy)
                store.upload(copy, key.replace(self._name, target, 1))
        for key in reversed(keys):
            store.delete(key)
        return f"{store.uri}/{target}"


def _replaced(name: str) -> str:
    return f"{name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def standing_at(location: str | Path) -> Standing:
    """What stands at a path, or at `s3://bucket/key`.

    Raises:
        InputError: the location names a bucket only.
    """
    return _RemoteStanding(str(location)) if is_remote(location) else LocalStanding(Path(location))
