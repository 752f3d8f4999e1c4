"""What a run is made from, by content: what must not change between its parts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.config import DataConfig, RunConfig
from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.records.manifest import content_hash
from tspin.records.records import AnnotatedRecord, read_records
from tspin.store import fetch

__all__ = ["Data", "DataHashes", "copy_records", "data_hashes", "fetch_data"]


@dataclass(frozen=True)
class DataHashes:
    """Content hashes (hex SHA-256) of a run's data."""

    annotated: str
    heldout: str | None

    def as_named(self) -> dict[str, str]:
        """By what a message calls them; what is not there is left out."""
        hashes = {"data.annotated": self.annotated, "data.heldout": self.heldout}
        return {f"content of {name}": value for name, value in hashes.items() if value is not None}


@dataclass(frozen=True)
class Data:
    """A run's data on this machine."""

    annotated: Path
    heldout: Path | None

    def hashes(self) -> DataHashes:
        """Read the files and say what they are."""
        return DataHashes(
            annotated=content_hash(self.annotated),
            heldout=None if self.heldout is None else content_hash(self.heldout),
        )


def fetch_data(config: RunConfig) -> Data:
    """The data of a run; what is remote is copied to this machine.

    Raises:
        InputError: a file is missing.
        TspinError: a store cannot be reached, or denies it.
    """
    heldout = config.data.heldout
    return Data(
        annotated=_fetched("data.annotated", config.data.annotated),
        heldout=None if heldout is None else _fetched("data.heldout", heldout),
    )


def _fetched(name: str, location: str) -> Path:
    path = fetch(location)
    if not path.is_file():
        raise InputError(f"{name} is {location!r}: no such file")
    return path


def data_hashes(config: RunConfig) -> DataHashes:
    """Read the data of a run and say what it is.

    Raises:
        InputError: a file is missing.
        TspinError: a store cannot be reached, or denies it.
    """
    return fetch_data(config).hashes()


def copy_records(data: DataConfig, role: str, sha256: str, out: Path) -> dict[str, Any]:
    """Copy the annotated or the held-out records of a run, after reading each of them.

    Args:
        data: Names the files.
        role: `annotated` or `heldout`.
        sha256: What the file must hold, hex.
        out: The copy; appears whole or not at all.

    Returns:
        Metadata: hash, size in bytes, number of records.

    Raises:
        InputError: a record is broken, or the file was changed since its hash was taken.
    """
    location: str = getattr(data, role)
    source = _fetched(f"data.{role}", location)
    content = content_hash(source)
    if content != sha256:
        raise InputError(f"{location}: was changed after the run began: {content}, was {sha256}")
    records = sum(1 for _ in read_records(source, AnnotatedRecord))
    with atomic_file(out) as copy, source.open("rb") as original:
        shutil.copyfileobj(original, copy)
    return {"sha256": content, "bytes": out.stat().st_size, "records": records, "source": location}
