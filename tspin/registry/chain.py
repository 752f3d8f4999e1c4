"""The records of a registry in their order, each held against the one before it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tspin.registry.record import FORMAT, Record
from tspin.release import newer_format
from tspin.store import Store

__all__ = ["Link", "record_key", "walk"]

_FOLDER = "champion/"


@dataclass(frozen=True)
class Link:
    """One place in the chain."""

    key: str
    """Of the object that stands there, or should."""
    record: Record | None = None
    """None where it cannot be read."""
    sha256: str | None = None
    """Of the object, byte for byte; None where there is none."""
    problem: str | None = None
    """What is wrong with it or with the one before it, without the key; None where all is well."""


def record_key(number: int) -> str:
    """Where the record of a number stands."""
    return f"{_FOLDER}{number:08d}.json"


def walk(store: Store) -> Iterator[Link]:
    """All records, the first one first, and what is missing between them.

    A record names the hash of the one before it, so what was changed or removed before the last
    record is found here. The last one has no successor that would vouch for it: that it is
    neither changed nor gone is for the store to ensure (docs/guides/registry.md).

    Raises:
        TspinError: the store cannot be reached, or denies it.
    """
    before: Link | None = None
    expected = 1
    for key in store.list(_FOLDER):
        name = key.removeprefix(_FOLDER)
        if name.startswith("."):  # The probe, or a file on its way.
            continue
        number = int(name[:8]) if re.fullmatch(r"\d{8}\.json", name) else 0
        if number < expected:
            yield Link(key, problem="not a record of a promotion")
            continue
        if number > expected:
            before = Link(record_key(expected), problem=f"is missing, though {key} is there")
            yield before
        before = _link(store, key, number, before)
        yield before
        expected = number + 1


def _link(store: Store, key: str, number: int, before: Link | None) -> Link:
    content = store.read(key)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        if newer := newer_format(json.loads(content).get("version"), FORMAT):
            return Link(key, sha256=sha256, problem=newer)
        record = Record.model_validate_json(content)
    except (ValueError, AttributeError) as error:  # pydantic's error is a ValueError.
        return Link(key, sha256=sha256, problem=f"not a record of a promotion: {error}")
    return Link(key, record, sha256, _break(record, number, before))


def _break(record: Record, number: int, before: Link | None) -> str | None:
    """Why a record does not follow from the one before it."""
    if record.number != number:
        return f"says that it is number {record.number}; it was changed or moved"
    if number == 1 or before is None:
        return None
    named = record.previous_sha256
    if named is None:
        chained = record.version > 1 or (before.record is not None and before.record.version > 1)
        return "does not name the hash of the record before it; it was changed" if chained else None
    if before.sha256 not in (None, named):
        return (
            f"was written after another {before.key} than the one that stands there now: its "
            f"sha256 was {named}, and is {before.sha256}"
        )
    return None
