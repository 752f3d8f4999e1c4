"""How S3 is talked to: tries, patience and parts; what the environment says comes first."""

from __future__ import annotations

import os

from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tspin.errors import InputError

__all__ = ["TIMES", "TRANSFER", "client_settings", "settle_seconds"]

TIMES = 3
"""How often bytes may arrive damaged, or a download break off, before that is no accident."""
TRANSFER = TransferConfig(
    multipart_threshold=16 << 20,
    multipart_chunksize=16 << 20,
    max_concurrency=4,
    num_download_attempts=TIMES,
)

_ATTEMPTS = 6
"""Where AWS_MAX_ATTEMPTS does not say; an unreachable server is given up within a minute."""
_READ_SECONDS = 30.0
"""Where TSPIN_S3_READ_SECONDS does not say: how long a silent server is waited for, each time."""
_SETTLE_SECONDS = 60.0
"""Where TSPIN_S3_SETTLE_SECONDS does not say: longer than a server waits for a request's body."""


def client_settings() -> Config:
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
