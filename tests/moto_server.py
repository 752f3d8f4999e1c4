"""An S3 server on loopback, with the settings of a client for it in the environment."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

__all__ = ["s3_bucket"]


@contextmanager
def s3_bucket() -> Iterator[str]:
    """A new bucket, `s3://NAME`, of a server that ends with the block."""
    name = f"bucket-{uuid.uuid4().hex}"  # All servers of a process share one state.
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket=name)
        try:
            yield f"s3://{name}"
        finally:
            server.stop()
