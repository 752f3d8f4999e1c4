"""Copies of remote files and folders on this machine, one for each version of them."""

from __future__ import annotations

import hashlib
import json
import logging
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock

from tspin.errors import InputError
from tspin.files import atomic_folder
from tspin.store.location import RemoteLocation, cache_folder, is_remote

__all__ = ["fetch"]

log = logging.getLogger(__name__)


def fetch(location: str | Path, *, skip: tuple[str, ...] = ()) -> Path:
    """The path of a file or folder on this machine; a remote one is copied into the cache.

    The copy is found by the objects' ETags: what has not changed is not copied again. A manifest
    beside the object comes with it.

    Args:
        location: A path, which is returned as it is, or `s3://bucket/key`.
        skip: Patterns of files in a folder that are not needed.

    Raises:
        InputError: there is nothing at this URI.
        TspinError: the store cannot be reached, denies it, or sent other bytes.
    """
    if not is_remote(location):
        return Path(location)
    remote = RemoteLocation.of(str(location))
    versions = {
        key: version
        for key, version in remote.versions().items()
        if not any(fnmatch(key, pattern) for pattern in skip)
    }
    if not any(key == remote.name or key.startswith(f"{remote.name}/") for key in versions):
        raise InputError(f"{location}: no such object, and nothing below it")
    folder = cache_folder() / "fetched" / remote.key / _digest(versions)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            log.info("fetching %s", location)
            with atomic_folder(folder) as copy:
                for key in versions:
                    remote.store.download(key, copy / key)
    return folder / remote.name


def _digest(versions: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()[:16]
