"""What went wrong with an S3 server, in the words of someone who can repair it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error, S3UploadFailedError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)
from s3transfer.exceptions import RetriesExceededError

from tspin.errors import TspinError
from tspin.store.base import ConflictError, DamagedError, KeyMissingError

__all__ = ["UnsupportedError", "told"]

_MISSING = {"NoSuchKey", "404", "NotFound"}
_CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
"""The server got other bytes than were sent."""
_DENIED = {"AccessDenied", "403", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken"}
_UNSUPPORTED = {"NotImplemented", "501"}


class UnsupportedError(TspinError):
    """The server knows no such request."""


@contextmanager
def told(place: str, endpoint: str) -> Iterator[None]:
    """Turn boto3's errors inside the block into one of ours.

    Args:
        place: What is read or written, as a URI.
        endpoint: The server's address.

    Raises:
        KeyMissingError, ConflictError, DamagedError, UnsupportedError: the server says so.
        TspinError: anything else.
    """
    try:
        yield
    except ClientError as error:
        raise _refused(place, error) from None
    except NoCredentialsError:
        raise TspinError(
            f"{place}: no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from None
    except (EndpointConnectionError, ConnectTimeoutError):
        raise TspinError(f"{place}: cannot reach {endpoint}; is AWS_ENDPOINT_URL right?") from None
    except S3UploadFailedError as error:
        cause = error.__context__
        if isinstance(cause, ClientError):
            raise _refused(place, cause) from None
        raise TspinError(f"{place}: upload failed: {error}") from None
    except RetriesExceededError as error:
        last = error.last_exception
        raise TspinError(f"{place}: given up after several tries: {last}") from None
    except (BotoCoreError, Boto3Error) as error:
        raise TspinError(f"{place}: {error}") from None


def _refused(place: str, error: ClientError) -> TspinError:
    code = error.response["Error"].get("Code", "")
    message = error.response["Error"].get("Message", "")
    if code in _MISSING:
        return KeyMissingError(f"{place}: no such object")
    if code in _CONFLICT:
        return ConflictError(f"{place}: is there already")
    if code in _UNSUPPORTED:
        return UnsupportedError(f"{place}: the server cannot do this ({message})")
    if code == "NoSuchBucket":
        bucket = place.removeprefix("s3://").partition("/")[0]
        return TspinError(f"{place}: there is no bucket '{bucket}'")
    if code in _DAMAGED:
        return DamagedError(f"{place}: arrived damaged at the server ({code})")
    if code in _DENIED:
        return TspinError(f"{place}: denied ({code}); check the credentials and their rights")
    return TspinError(f"{place}: the server answered {code}: {message}")
