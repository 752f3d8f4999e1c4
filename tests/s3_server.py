"""An S3 server on loopback, with the settings of a client for it in the environment.

moto by default; Swift, a real server, where TSPIN_SWIFT names its commands (`make test-s3`).
"""

from __future__ import annotations

import atexit
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import boto3
import pytest

from tests.moto_server import moto_server
from tests.s3.swift import KEY, REGION, SECRET, SWIFT, Swift

__all__ = ["s3_bucket", "swift"]


@cache
def swift() -> Swift:
    """The Swift of this process, started when it is first wanted."""
    folder = tempfile.TemporaryDirectory(prefix="tspin-swift-")
    made = Swift(Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(made.stop)
    made.start()
    return made


@contextmanager
def s3_bucket(endpoint: str | None = None) -> Iterator[str]:
    """A new bucket, `s3://NAME`; a server of moto's ends with the block.

    Args:
        endpoint: What stands between client and Swift.
    """
    name = f"bucket-{uuid.uuid4().hex}"  # All servers of a process share one state.
    if SWIFT:
        with _client_of(endpoint or swift().url, KEY, SECRET):
            boto3.client("s3").create_bucket(Bucket=name)
            yield f"s3://{name}"
        return
    with moto_server() as url, _client_of(url, "id", "secret"):
        boto3.client("s3").create_bucket(Bucket=name)
        yield f"s3://{name}"


@contextmanager
def _client_of(url: str, key: str, secret: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv(
            "TSPIN_S3_SETTLE_SECONDS", "0"
        )  # Nobody else writes; where one does, it waits.
        yield
