"""How S3 is talked to: tries, patience and parts; what the environment says comes first."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tspin.errors import InputError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["TIMES", "TRANSFER", "open_client", "settle_seconds"]

TIMES = 3
"""How often bytes may arrive damaged, or a download break off, before that is no accident."""
TRANSFER = TransferConfig(
    multipart_threshold=16 << 20,
    multipart_chunksize=16 << 20,
    max_concurrency=4,
    num_download_attempts=TIMES,
    # What has arrived and waits for a disk that is slower. boto3's own 1000 blocks of 256 KiB would
    # hold 250 MiB in memory; these are a part.
    max_io_queue=64,
)

_ATTEMPTS = 6
"""Where AWS_MAX_ATTEMPTS does not say; an unreachable server is given up within a minute."""
_READ_SECONDS = 30.0
"""Where TSPIN_S3_READ_SECONDS does not say: how long a silent server is waited for, each time."""
_SETTLE_SECONDS = 60.0
"""Where TSPIN_S3_SETTLE_SECONDS does not say: longer than a server waits for a request's body."""


def open_client(*, creates: bool = False) -> S3Client:
    """A boto3 client with our settings; nothing is sent yet.

    Args:
        creates: Whether whatever it puts must be new. boto3's uploads do not take the condition
            themselves; it goes with what makes an object appear, a `PutObject` or the end of an
            upload in parts.

    Raises:
        InputError: a variable of the environment is no number.
    """
    client = boto3.client("s3", config=_settings())
    # A bucket with Object Lock wants a digest of what it locks, and does not count the signed one.
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-call.s3.{operation}", _add_md5)
    for operation in ("PutObject", "CompleteMultipartUpload") if creates else ():
        client.meta.events.register(f"before-parameter-build.s3.{operation}", _if_new)
    return client


def _add_md5(params: dict[str, Any], **_: object) -> None:
    body, digest = params["body"], hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes | bytearray):
        digest.update(body)
    else:
        start = body.tell()
        while block := body.read(1 << 20):
            digest.update(block)
        body.seek(start)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()


def _if_new(params: dict[str, Any], **_: object) -> None:
    params["IfNoneMatch"] = "*"


def _settings() -> Config:
    """Of a boto3 client: botocore's own retries, with backoff and jitter, and signed digests.

    Raises:
        InputError: a variable of the environment is no number.
    """
    return Config(
        retries={
            "mode": "standard",
            "total_max_attempts": int(_number("AWS_MAX_ATTEMPTS", _ATTEMPTS, least=1)),
        },
        connect_timeout=5,
        read_timeout=_number("TSPIN_S3_READ_SECONDS", _READ_SECONDS, least=0.1),
        # The server compares each body with the digest that is signed; the newer trailing
        # checksums are refused by servers other than AWS.
        s3={"payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def settle_seconds() -> float:
    """How long after a creation another one that began before it may still arrive.

    Raises:
        InputError: the variable of the environment is no number.
    """
    return _number("TSPIN_S3_SETTLE_SECONDS", _SETTLE_SECONDS, least=0)


def _number(name: str, usual: float, *, least: float) -> float:
    text = os.environ.get(name) or str(usual)
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not number >= least:
        raise InputError(f"{name}={text!r}: expected a number, at least {least:g}")
    return number
