"""An S3 prefix as a store: AWS, MinIO, Ceph, Swift, by the usual AWS settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)
from s3transfer.exceptions import RetriesExceededError

from tspin.errors import InputError, TspinError
from tspin.files import atomic_file, sha256_file
from tspin.store.base import ConflictError, DamagedError, KeyMissingError, checked_key

__all__ = ["S3Store"]

_MISSING = {"NoSuchKey", "404", "NotFound"}
_CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
"""The server got other bytes than were sent."""
_DENIED = {"AccessDenied", "403", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken"}

_ATTEMPTS = 6
"""Where AWS_MAX_ATTEMPTS does not say; an unreachable server is given up within a minute."""
_READ_SECONDS = 60.0
"""Where TSPIN_S3_READ_SECONDS does not say: how long a silent server is waited for, each time."""
_DAMAGED_TIMES = 3
"""How often bytes may arrive damaged before that is no accident."""

_TRANSFER = TransferConfig(
    multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4
)


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
            self._client = boto3.client("s3", config=_settings())
        except BotoCoreError as error:  # An unknown profile, no region where one is needed.
            raise InputError(f"{uri}: {error}") from None

    def read(self, key: str) -> bytes:
        """The content of a small object."""
        with self._told(key):
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            return found["Body"].read()

    def create(self, key: str, data: bytes) -> None:
        """Write a small object unless there is one, by `If-None-Match: *`."""
        with self._told(key):
            self._client.put_object(
                Bucket=self._bucket, Key=self._key(key), Body=data, IfNoneMatch="*"
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

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object, which appears when its last part is there."""
        extra = {"Metadata": {"sha256": sha256_file(path)}}
        for last in _tries():
            try:
                with self._told(key):
                    self._client.upload_file(
                        str(path), self._bucket, self._key(key), ExtraArgs=extra, Config=_TRANSFER
                    )
            except DamagedError:
                if last:
                    raise
            else:
                return

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
            self._client.download_fileobj(self._bucket, self._key(key), file, Config=_TRANSFER)
            file.flush()
            expected = head["Metadata"].get("sha256")
            found = sha256_file(Path(file.name)) if expected else None
            if found != expected:
                raise DamagedError(
                    f"{self.uri}/{key}: arrived with sha256 {found}, was sent with {expected}"
                )

    def _key(self, key: str) -> str:
        return self._prefix + checked_key(key)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Say what went wrong in the words of someone who can repair it."""
        place = f"{self.uri}/{key}"
        try:
            yield
        except ClientError as error:
            raise self._refused(place, error) from None
        except NoCredentialsError:
            raise TspinError(
                f"{place}: no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from None
        except (EndpointConnectionError, ConnectTimeoutError):
            endpoint = self._client.meta.endpoint_url
            raise TspinError(
                f"{place}: cannot reach {endpoint}; is AWS_ENDPOINT_URL right?"
            ) from None
        except S3UploadFailedError as error:
            cause = error.__context__
            if isinstance(cause, ClientError):
                raise self._refused(place, cause) from None
            raise TspinError(f"{place}: upload failed: {error}") from None
        except RetriesExceededError as error:
            last = error.last_exception
            raise TspinError(f"{place}: given up after several tries: {last}") from None
        except (BotoCoreError, Boto3Error) as error:
            raise TspinError(f"{place}: {error}") from None

    def _refused(self, place: str, error: ClientError) -> TspinError:
        code = error.response["Error"].get("Code", "")
        message = error.response["Error"].get("Message", "")
        if code in _MISSING:
            return KeyMissingError(f"{place}: no such object")
        if code in _CONFLICT:
            return ConflictError(f"{place}: is there already")
        if code == "NoSuchBucket":
            return TspinError(f"{place}: there is no bucket '{self._bucket}'")
        if code in _DAMAGED:
            return DamagedError(f"{place}: arrived damaged at the server ({code})")
        if code in _DENIED:
            return TspinError(f"{place}: denied ({code}); check the credentials and their rights")
        return TspinError(f"{place}: the server answered {code}: {message}")


def _tries() -> Iterator[bool]:
    """As many as damaged bytes are given; whether this is the last."""
    return (number + 1 == _DAMAGED_TIMES for number in range(_DAMAGED_TIMES))


def _settings() -> Config:
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", _ATTEMPTS))
    silent = float(os.environ.get("TSPIN_S3_READ_SECONDS", _READ_SECONDS))
    return Config(
        retries={"mode": "standard", "total_max_attempts": attempts},  # Backoff with jitter.
        connect_timeout=5,
        read_timeout=silent,
        # The server compares each body with the digest that is signed; the newer trailing
        # checksums are refused by servers other than AWS.
        s3={"payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
