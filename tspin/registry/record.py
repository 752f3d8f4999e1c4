"""One line of a registry's history: which model became the champion, and why."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tspin.records.estimate import Estimate

__all__ = ["FORMAT", "Record", "now", "user"]

FORMAT = 2
"""Of the records that are written; older ones are read."""


class Record(BaseModel):
    """What a promotion or a rollback leaves; never changed once it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    """Of the format; 1, which did not name it, is not chained."""
    number: int
    """From 1, without gaps; the highest is the champion's."""
    kind: Literal["promote", "rollback"]
    model: str
    """Content hash of the model (hex SHA-256): where it stands in the registry."""
    files_sha256: str | None = None
    """Of the model's list of files, byte for byte: binds its tokenizer and templates, which the
    content hash leaves out, to this record. Format 1 has none."""
    identity: str
    """Of the policy that was measured; for an adapter with its base."""
    metrics: dict[str, Estimate]
    evaluation: str
    """Hash of what decides the metrics: held-out records, template, settings."""
    numerics: dict[str, str | None] = {}
    """How the metrics were computed: engine, precision, attention. Earlier releases wrote none of
    it down, and what is unknown counts as the same."""
    metric: str
    direction: Literal["max", "min"]
    min_gain: float
    previous: int | None
    """The record of the champion that it replaced."""
    previous_sha256: str | None = None
    """Of that record, byte for byte. None of the first, and in format 1."""
    by: str
    at: str
    """UTC, ISO 8601."""
    data: dict[str, str] = {}
    """What the model was trained on: role to content hash."""
    git_commit: str | None = None
    run: str | None = None


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container's user may have no name.
        return f"uid {os.getuid()}"


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
