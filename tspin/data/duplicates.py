"""What was seen before, in a temporary database on the disk: memory does not grow with the file."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from tspin.data.rows.problems import Flaw, Place, Reason
from tspin.errors import TspinError

__all__ = ["SeenRecords"]

_CACHE_KIB = 8192


class SeenRecords:
    """Remembers ids and contents with the places where they stood first.

    A context manager; the database has no name and goes when it is closed, or with the process.
    """

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        # An empty name is sqlite's private database on disk, deleted as it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute(
            "CREATE TABLE seen (key BLOB PRIMARY KEY, file INTEGER, line INTEGER, row INTEGER)"
            " WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def add(self, place: Place, record_id: str, content: str) -> Flaw | None:
        """Remember a record, or say of which earlier one it is a duplicate.

        Args:
            place: Where the record stands.
            record_id: Its id.
            content: Its content id (`records.content_id`).

        Raises:
            TspinError: the disk is full.
        """
        keys = (_key(b"c", content), _key(b"i", record_id))
        here = (self._files.setdefault(place.file, len(self._files)), place.line, place.row)
        insert = "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?), (?, ?, ?, ?)"
        try:
            if self._database.execute(insert, (keys[0], *here, keys[1], *here)).rowcount == 2:
                return None
            earlier = [self._earlier(key, here) for key in keys]
            # The record is not kept, so neither its content nor its id has been seen yet.
            for key, before in zip(keys, earlier, strict=True):
                if before is None:
                    self._database.execute("DELETE FROM seen WHERE key = ?", (key,))
        except sqlite3.OperationalError as error:
            raise TspinError(f"temporary database for duplicates: {error}") from None
        same, other = earlier
        if same is not None:
            message = f"has the same prompt and response as {same}; keep one of the two"
            return Flaw(Reason.DUPLICATE_CONTENT, None, message)
        message = f"is {record_id!r:.80} as in {other}, whose content differs; ids are unique"
        return Flaw(Reason.DUPLICATE_ID, "id", message)

    def _earlier(self, key: bytes, here: tuple[int, int | None, int | None]) -> str | None:
        """Where a key stood first, seen from here; None if that is here."""
        matches = self._database.execute("SELECT file, line, row FROM seen WHERE key = ?", (key,))
        file, line, row = matches.fetchone()
        if (file, line, row) == here:
            return None
        number = f"line {line}" if line is not None else f"row {row}"
        return number if file == here[0] else f"{number} of {list(self._files)[file]}"


def _key(kind: bytes, text: str) -> bytes:
    return kind + hashlib.blake2b(text.encode(), digest_size=16).digest()
