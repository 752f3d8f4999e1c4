"""A prefix in Google Cloud Storage or Azure Blob Storage as a store, through obstore."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore

from tspin.errors import InputError, TspinError
from tspin.files import atomic_file, sha256_file
from tspin.store.base import ConflictError, DamagedError, KeyMissingError, checked_key

__all__ = ["ObjectStore"]

_PART = 16 << 20
_WHOLE = 64 << 20
"""Up to this size a file goes up in one request, which is held in memory and takes a condition."""
_TIMES = 3
"""How often bytes may arrive damaged before that is no accident."""
_NO_CONTAINER = ("NoSuchBucket", "ContainerNotFound")


class ObjectStore:
    """Objects below a prefix of a bucket or container; see `tspin.store.base.Store`.

    Both servers look at a condition when the object is written: Cloud Storage at the generation 0
    of what is not there, Blob Storage at `If-None-Match: *`. So of many writers one wins at once.
    """

    def __init__(self, uri: str) -> None:
        """Account and credentials come from the environment or the machine's identity."""
        scheme, _, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise InputError(f"{uri}: names no bucket; expected {scheme}://bucket/prefix")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"{scheme}://{bucket}/{self._prefix}".rstrip("/")
        kind = GCSStore if scheme == "gs" else AzureStore
        try:
            self._store = kind.from_url(
                f"{scheme}://{bucket}",
                # A whole object comes in one answer: no limit on all of it, one on its silence.
                client_options={
                    "allow_http": True,  # Of an endpoint that is given as http://, an emulator.
                    "timeout": timedelta(days=1),
                    "read_timeout": timedelta(seconds=30),
                },
                retry_config={"max_retries": 6, "retry_timeout": timedelta(minutes=1)},
            )
        except (BaseError, ValueError) as error:
            raise InputError(f"{uri}: {_first_line(error)}") from None

    def read(self, key: str) -> bytes:
        """The content of a small object."""
        with self._told(key):
            return bytes(self._store.get(self._key(key)).bytes())

    def write(self, key: str, data: bytes) -> None:
        """Write a small object, in place of one that is there."""
        with self._told(key):
            self._store.put(self._key(key), data, use_multipart=False)

    def create(self, key: str, data: bytes, *, same: bool = False) -> None:
        """Write a small object unless there is one.

        An answer that got lost makes obstore ask again, and the server say no to what it has
        done: whether the object is ours decides.

        Args:
            key: Of the object.
            data: Its content.
            same: See `tspin.store.base.Store.create`.
        """
        try:
            with self._told(key):
                self._store.put(self._key(key), data, mode="create")
        except ConflictError:
            if self.read(key) != data:
                raise

    def create_from(self, path: Path, key: str) -> None:
        """As `create`, with the content of a file; a large one is looked for before it is sent.

        Uploads in parts take no condition here. Two of our writers bring the same bytes, so that
        nothing depends on who was first.
        """
        sha256 = sha256_file(path)
        try:
            with self._told(key):
                if path.stat().st_size <= _WHOLE:
                    attributes = {"sha256": sha256}
                    self._store.put(self._key(key), path, mode="create", attributes=attributes)
                    return
                self._store.head(self._key(key))
        except KeyMissingError:
            self.upload(path, key)
            return
        except ConflictError:
            pass
        if self.sha256(key) != sha256:
            raise ConflictError(f"{self.uri}/{key}: is there already")

    def sha256(self, key: str) -> str:
        """Hex SHA-256 of an object's bytes, streamed."""
        digest = hashlib.sha256()
        with self._told(key):
            for block in self._store.get(self._key(key)).stream():
                digest.update(block)
        return digest.hexdigest()

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with a prefix, sorted."""
        return iter(sorted(self.versions(prefix)))

    def versions(self, prefix: str = "") -> dict[str, str]:
        """The ETags of the keys that begin with a prefix."""
        start = self._prefix + prefix
        folder = start.rpartition("/")[0]  # obstore lists whole folders.
        with self._told(prefix):
            return {
                entry["path"].removeprefix(self._prefix): str(entry["e_tag"])
                for page in self._store.list(folder or None)
                for entry in page
                if entry["path"].startswith(start)
            }

    def delete(self, key: str) -> None:
        """Remove an object if there is one."""
        try:
            with self._told(key):
                self._store.delete(self._key(key))
        except KeyMissingError:
            return

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object, which appears when its last part is there."""
        attributes = {"sha256": sha256_file(path)}
        with self._told(key):
            self._store.put(
                self._key(key), path, attributes=attributes, chunk_size=_PART, max_concurrency=4
            )

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file, streamed; bytes that are not the sender's are refused."""
        for number in range(_TIMES):
            try:
                with self._told(key):
                    self._download(key, path)
            except DamagedError:
                if number + 1 == _TIMES:
                    raise
            else:
                return

    def _download(self, key: str, path: Path) -> None:
        answer = self._store.get(self._key(key))
        expected = answer.attributes.get("sha256")
        digest = hashlib.sha256()
        with atomic_file(path) as file:
            for block in answer.stream(min_chunk_size=_PART):
                digest.update(block)
                file.write(block)
            if expected not in (None, digest.hexdigest()):
                raise DamagedError(
                    f"{self.uri}/{key}: arrived with sha256 {digest.hexdigest()}, was sent with "
                    f"{expected}"
                )

    def _key(self, key: str) -> str:
        return self._prefix + checked_key(key)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        place = f"{self.uri}/{key}"
        try:
            yield
        except FileNotFoundError as error:
            if any(code in str(error) for code in _NO_CONTAINER):
                bucket = self.uri.partition("://")[2].partition("/")[0]
                raise TspinError(f"{place}: there is no bucket or container '{bucket}'") from None
            raise KeyMissingError(f"{place}: no such object") from None
        except (AlreadyExistsError, PreconditionError):
            raise ConflictError(f"{place}: is there already") from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise TspinError(
                f"{place}: denied; check the credentials and their rights: {_first_line(error)}"
            ) from None
        except BaseError as error:
            raise TspinError(f"{place}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """Without the debugging output and the document that follow."""
    return str(error).partition("\n")[0]
