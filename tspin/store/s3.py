"""An S3 prefix as a store: AWS, MinIO, Ceph, Swift, by the usual AWS settings."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError

from tspin.errors import InputError, TspinError
from tspin.files import atomic_file, sha256_file
from tspin.store.base import ConflictError, DamagedError, KeyMissingError, checked_key
from tspin.store.s3_errors import UnsupportedError, told
from tspin.store.s3_settings import TIMES, TRANSFER, open_client, settle_seconds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Store"]

_PROBE = ".condition"
_BLOCK = 1 << 20


class S3Store:
    """Objects below a prefix of a bucket; see `tspin.store.base.Store`."""

    def __init__(self, uri: str) -> None:
        """Endpoint, region, profile and credentials come from the environment or ~/.aws."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise InputError(f"{uri}: names no bucket; expected s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        try:
            self._client = open_client()
        except BotoCoreError as error:  # An unknown profile, no region where one is needed.
            raise InputError(f"{uri}: {error}") from None

    def read(self, key: str) -> bytes:
        """The content of a small object."""
        with self._told(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            return answer["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        """Write a small object, in place of one that is there."""
        with self._told(key):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data)

    def create(self, key: str, data: bytes, *, same: bool = False) -> None:
        """Write a small object unless there is one, by `If-None-Match: *`.

        An answer that got lost makes botocore ask again, and the server say no to what it has
        done: whether the object is ours decides. Where the server looks at the condition before
        it takes the body, two writers may pass; what stands there when no request from before can
        be on its way any more is what was created.

        Args:
            key: Of the object.
            data: Its content.
            same: See `tspin.store.base.Store.create`.

        Raises:
            InputError: the server ignores conditions.
        """
        at_once = self._decides_at_once
        try:
            with self._told(key):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(key), Body=data, IfNoneMatch="*"
                )
        except ConflictError:
            if self.read(key) != data:
                raise
        if at_once or same:
            return
        time.sleep(settle_seconds())
        if self.read(key) != data:
            raise ConflictError(f"{self.uri}/{key}: was created by someone else as well")

    @cached_property
    def _decides_at_once(self) -> bool:
        """Whether conditions are looked at when the object is written, not before.

        Asked by a condition that cannot hold. AWS, MinIO, Ceph: there is no object to match.
        Swift does not know `If-Match`; its `If-None-Match` comes before the body.
        """
        try:
            with self._told(_PROBE):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(_PROBE), Body=b"", IfMatch='"0"'
                )
        except (KeyMissingError, ConflictError):
            return True
        except UnsupportedError:
            return False
        self.delete(_PROBE)
        raise InputError(
            f"{self.uri}: this server ignores conditions on writing (If-Match), so two promotions "
            "could both win; keep the registry in a folder or on another server"
        )

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with a prefix, sorted."""
        return iter(sorted(self.versions(prefix)))

    def versions(self, prefix: str = "") -> dict[str, str]:
        """The ETags of the keys that begin with a prefix."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._told(prefix):
            return {
                entry["Key"].removeprefix(self._prefix): entry["ETag"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
                for entry in page.get("Contents", ())
            }

    def delete(self, key: str) -> None:
        """Remove an object if there is one."""
        with self._told(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def create_from(self, path: Path, key: str) -> None:
        """As `create`, with the content of a file; policies can deny writing over what is there."""
        try:
            self._upload(self._creator, path, key)
        except ConflictError:
            if self.sha256(key) != sha256_file(path):
                raise

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object, which appears when its last part is there."""
        self._upload(self._client, path, key)

    def _upload(self, client: S3Client, path: Path, key: str) -> None:
        extra = {"Metadata": {"sha256": sha256_file(path)}}
        for last in _tries():
            try:
                with self._told(key):
                    client.upload_file(
                        str(path), self._bucket, self._key(key), ExtraArgs=extra, Config=TRANSFER
                    )
            except DamagedError:
                if last:
                    raise
            else:
                return

    @cached_property
    def _creator(self) -> S3Client:
        """A client that replaces no object."""
        return open_client(creates=True)

    def sha256(self, key: str) -> str:
        """Hex SHA-256 of an object's bytes, streamed; begun again where the stream breaks off."""
        for last in _tries():
            digest = hashlib.sha256()
            try:
                with self._told(key):
                    answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
                    for block in answer["Body"].iter_chunks(_BLOCK):
                        digest.update(block)
            except KeyMissingError:
                raise
            except TspinError:
                if last:
                    raise
            else:
                break
        return digest.hexdigest()

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file, streamed; bytes that are not the sender's are refused."""
        for last in _tries():
            try:
                with self._told(key):
                    self._download(key, path)
            except DamagedError:
                if last:
                    raise
            else:
                return

    def _download(self, key: str, path: Path) -> None:
        head = self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        with atomic_file(path) as file:
            self._client.download_fileobj(self._bucket, self._key(key), file, Config=TRANSFER)
            file.flush()
            expected = head["Metadata"].get("sha256")
            sha256 = sha256_file(Path(file.name)) if expected else None
            if sha256 != expected:
                raise DamagedError(
                    f"{self.uri}/{key}: arrived with sha256 {sha256}, was sent with {expected}"
                )

    def _key(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _told(self, key: str) -> AbstractContextManager[None]:
        return told(f"{self.uri}/{key}", str(self._client.meta.endpoint_url))


def _tries() -> Iterator[bool]:
    """As many as damaged bytes are given; whether this is the last."""
    return (number + 1 == TIMES for number in range(TIMES))
