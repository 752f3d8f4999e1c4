"""The models of a registry: each below the hash of its content, with a list of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tspin.errors import InputError, TspinError
from tspin.files import atomic_folder, sha256_file
from tspin.outputs import check_output, copy_of
from tspin.records.manifest import content_hash, listed_hash
from tspin.registry.record import Record
from tspin.store import ConflictError, KeyMissingError, Store

__all__ = ["FileList", "Models"]

_FILES = "files.json"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int


@dataclass(frozen=True)
class FileList:
    """The files of a model, as `files.json` holds them."""

    content: bytes
    """Of `files.json`."""

    @classmethod
    def of(cls, folder: Path) -> FileList:
        """The list of a folder."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {
            path.relative_to(folder).as_posix(): {
                "sha256": sha256_file(path),
                "bytes": path.stat().st_size,
            }
            for path in paths
        }
        return cls(json.dumps(files, indent=2).encode())

    @property
    def sha256(self) -> str:
        """Of the list itself."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Relative name to hex SHA-256.

        Raises:
            ValueError: the content is no such list.
        """
        files = TypeAdapter(dict[str, _File]).validate_json(self.content)
        return {name: file.sha256 for name, file in files.items()}

    @property
    def model(self) -> str:
        """The content hash of a model with these files."""
        return listed_hash(self.hashes)


class Models:
    """`models/HASH/...` of a store; nothing there is trusted that does not hash to its name."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store

    def add(self, folder: Path) -> FileList:
        """Copy a model to where nothing of it is yet; what is there already must be the same.

        No object is replaced: each is created, `files.json` as the last, so that a store may deny
        writing over what is there. What stands there, whoever put it there, is read and hashed.

        Args:
            folder: The model's.

        Returns:
            The list of its files.

        Raises:
            InputError: other content stands in its place.
            TspinError: the store cannot be reached, or denies it.
        """
        files = FileList.of(folder)
        prefix = f"models/{content_hash(folder)}"
        present = set(self._store.list(f"{prefix}/"))
        for name, sha256 in files.hashes.items():
            key = f"{prefix}/{name}"
            try:
                if key not in present:
                    self._store.create_from(folder / name, key)
                elif self._store.sha256(key) != sha256:
                    raise ConflictError(f"{self._store.uri}/{key}: is there already")
            except ConflictError as error:
                raise InputError(f"{error}, and is no copy of {folder / name}; {_WHOSE}") from None
        key = f"{prefix}/{_FILES}"
        try:
            self._store.create(key, files.content, same=True)
        except ConflictError as error:
            raise InputError(
                f"{error}, and lists other files than {folder} has; {_WHOSE}"
            ) from None
        return files

    def fetch(self, record: Record, out: Path, *, overwrite: bool | None = None) -> None:
        """Copy a record's model to a folder, which appears whole or not at all.

        Args:
            record: Names the model, and vouches for it.
            out: The folder; does nothing where the same files are there.
            overwrite: Move what is in the way aside (`tspin.outputs.check_output`).

        Raises:
            InputError: there is no such model, or something else stands in its place.
            TspinError: a file is not what was put in.
        """
        files = self._files(record)
        ours = copy_of(files.hashes)
        check_output(out, ours, folder=True, inputs=[self._store.uri], overwrite=overwrite)
        if out.is_dir() and any(out.iterdir()):
            return
        with atomic_folder(out) as temporary:
            for name, sha256 in files.hashes.items():
                path = temporary / name
                key = f"models/{record.model}/{name}"
                self._store.download(key, path)
                if sha256_file(path) != sha256:
                    raise TspinError(f"{self._store.uri}/{key}: {_changed(sha256)}")

    def read(self, record: Record, name: str) -> bytes | None:
        """A small file of a record's model, checked against its list; None where it has none.

        Raises:
            InputError: there is no such model.
            TspinError: the file, or the list of files, is not what was put in.
        """
        sha256 = self._files(record).hashes.get(name)
        if sha256 is None:
            return None
        key = f"models/{record.model}/{name}"
        content = self._store.read(key)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise TspinError(f"{self._store.uri}/{key}: {_changed(sha256)}")
        return content

    def problems(self, record: Record) -> Iterator[str]:
        """What of a record's model is not what was put in; all of it is read."""
        try:
            files = self._files(record)
        except TspinError as error:
            yield str(error)
            return
        for name, sha256 in files.hashes.items():
            key = f"models/{record.model}/{name}"
            try:
                same = self._store.sha256(key) == sha256
            except KeyMissingError as error:
                yield str(error)
            else:
                if not same:
                    yield f"{self._store.uri}/{key}: {_changed(sha256)}"

    def _files(self, record: Record) -> FileList:
        """The list that a record vouches for.

        Raises:
            InputError: there is none.
            TspinError: it is another one, or lists another model.
        """
        key = f"models/{record.model}/{_FILES}"
        place = f"{self._store.uri}/{key}"
        try:
            files = FileList(self._store.read(key))
        except KeyMissingError:
            raise InputError(f"{self._store.uri}: holds no model {record.model}") from None
        if record.files_sha256 not in (None, files.sha256):
            raise TspinError(f"{place}: {_changed(str(record.files_sha256))}")
        try:
            model = files.model
        except ValidationError as error:
            raise TspinError(f"{place}: not a list of a model's files: {error}") from None
        if model != record.model:
            raise TspinError(f"{place}: lists the files of another model, {model}")
        return files


_WHOSE = (
    "no promotion of this candidate put it there. Find out who did; then remove it, with the "
    "rights of the bucket's owner, and promote again"
)


def _changed(sha256: str) -> str:
    return f"is not what was put in; its sha256 should be {sha256}"
