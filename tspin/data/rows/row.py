"""One row as it stands in a file, and what is wrong with a file that cannot be cut into rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.data.rows.problems import Flaw, Place, Problem, Reason

__all__ = ["MAX_ROW_BYTES", "RawRow", "byte_order_mark", "too_long"]

MAX_ROW_BYTES = 16 * 2**20
"""A row longer than this is a problem and is never held in memory as a whole."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One object as it stands in a file."""

    place: Place
    fields: dict[str, Any]


def byte_order_mark(path: Path) -> Problem:
    """The problem of a file that begins with a UTF-8 byte-order mark."""
    message = "begins with a byte-order mark (BOM); save the file as UTF-8 without one"
    return Problem(Place(path, 1), Flaw(Reason.BYTE_ORDER_MARK, None, message), costs_row=False)


def too_long(place: Place) -> Problem:
    """The problem of a row that is too long to be read at all."""
    message = f"row of more than {MAX_ROW_BYTES // 2**20} MiB; is the file cut into lines?"
    return Problem(place, Flaw(Reason.OVER_LONG, None, message))
