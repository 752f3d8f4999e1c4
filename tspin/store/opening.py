"""From a URI to a store."""

from __future__ import annotations

from pathlib import Path

from tspin.errors import InputError
from tspin.store.base import Store
from tspin.store.folder import FolderStore

__all__ = ["open_store"]


def open_store(uri: str) -> Store:
    """Open a store; nothing is read or written yet.

    Args:
        uri: `s3://bucket/prefix`, `file:///folder`, or a folder.

    Raises:
        InputError: another scheme, or no bucket.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderStore(Path(uri))
    if scheme == "file":
        return FolderStore(Path(rest))
    if scheme != "s3":
        raise InputError(f"{uri}: unknown kind of store {scheme!r}; expected s3:// or a folder")
    from tspin.store.s3 import S3Store  # boto3 takes its time

    return S3Store(uri)
