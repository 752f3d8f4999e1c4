"""The rows of a CSV or TSV file, whose first line names the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tspin.data.rows.opening import inner_suffix, open_bytes
from tspin.data.rows.problems import Flaw, Place, Problem, Reason
from tspin.data.rows.row import MAX_ROW_BYTES, RawRow, byte_order_mark
from tspin.errors import InputError, located

__all__ = ["read_table"]

_DELIMITERS = (",", ";", "\t", "|")


def read_table(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the rows of a table with the line each ends on; empty cells are absent.

    Raises:
        InputError: it has no header, or a quote breaks the table so that the rows after it cannot
            be told apart.
    """
    with open_bytes(path) as file:
        if (head := file.read(3)) == b"\xef\xbb\xbf":
            yield byte_order_mark(path)
            head = b""
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            message = "begins with a UTF-16 byte-order mark; save the file as UTF-8"
            raise located(path, 1, message)
        # Bytes that are not UTF-8 become surrogates: their row is refused, the others are read.
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
        try:
            yield from _rows(path, text, head.decode("utf-8", "surrogateescape"))
        finally:
            text.detach()


def _rows(path: Path, text: IO[str], head: str) -> Iterator[RawRow | Problem]:
    first = head + text.readline()
    tabs = inner_suffix(path) == ".tsv"
    delimiter = "\t" if tabs else max(_DELIMITERS, key=first.count)
    # The limit is the process's; a row may have as many bytes here as in any other format.
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(_lines(first, text), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if names is None:
                names = _header(path, cells)
            else:
                yield _row(Place(path, reader.line_num), names, cells)
    except csv.Error as error:
        message = f"broken table: {error}; the rows after it cannot be told apart"
        raise located(path, reader.line_num, message) from None


def _lines(first: str, text: IO[str]) -> Iterator[str]:
    yield first
    # An unclosed quote would otherwise read on to the end of the file in one piece.
    while line := text.readline(MAX_ROW_BYTES):
        yield line


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise located(path, 1, f"the header names the column {twice!r} twice; rename one of them")
    if not any(names):
        raise InputError(f"{path}:1: expected the names of the columns, such as prompt,completion")
    return names


def _row(place: Place, names: list[str], cells: list[str]) -> RawRow | Problem:
    if len(cells) != len(names):
        message = f"has {len(cells)} cells, the header has {len(names)} columns"
        return Problem(place, Flaw(Reason.BROKEN_TABLE, None, message))
    for cell in cells:
        if not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell):
            message = "holds bytes that are not UTF-8; save the file as UTF-8"
            return Problem(place, Flaw(Reason.NOT_UTF8, None, message))
    # A column without a name is the index that pandas writes.
    values = {name: cell or None for name, cell in zip(names, cells, strict=True) if name}
    return RawRow(place, values)
