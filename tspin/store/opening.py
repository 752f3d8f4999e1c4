"""From a URI to a store."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tspin.errors import InputError
from tspin.store.base import Store
from tspin.store.folder import FolderStore

__all__ = ["check_scheme", "open_store"]

_SCHEMES = ("s3", "gs", "az", "file")


def check_scheme(uri: str) -> str:
    """The scheme of a URI; '' of a folder.

    Raises:
        InputError: no store has it.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return ""
    if scheme not in _SCHEMES:
        raise InputError(
            f"{uri}: unknown kind of store {scheme!r}; expected s3://, gs://, az:// or a folder"
        )
    return scheme


def open_store(uri: str) -> Store:
    """Open a store; nothing is read or written yet.

    Args:
        uri: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
            `file:///folder`, or a folder.

    Raises:
        InputError: another scheme, no bucket, or the package for it is not installed.
    """
    scheme = check_scheme(uri)
    if scheme in ("", "file"):
        return FolderStore(Path(uri.removeprefix("file://")))
    if scheme == "s3":
        from tspin.store.s3 import S3Store  # boto3 takes its time

        return S3Store(uri)
    if find_spec("obstore") is None:
        raise InputError(f"{uri}: obstore is not installed; pip install 'tspin[objects]'")
    from tspin.store.objects import ObjectStore

    return ObjectStore(uri)
