"""Raw rows of a file, one at a time, each with its place; memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tspin.data.rows.arrays import read_array
from tspin.data.rows.json_text import StrictDecoder, decode_line
from tspin.data.rows.objects import read_columns, read_object
from tspin.data.rows.opening import open_bytes
from tspin.data.rows.problems import Flaw, Place, Problem, Reason, RowError
from tspin.data.rows.row import MAX_ROW_BYTES, RawRow, byte_order_mark, too_long
from tspin.data.rows.sources import SourceFile
from tspin.data.rows.tables import read_table
from tspin.errors import InputError

__all__ = ["read_lines", "read_rows"]

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_rows(source: SourceFile) -> Iterator[RawRow | Problem]:
    """The rows of one file, and in their places the problems of those that cannot be read.

    A byte-order mark, empty lines and carriage returns are problems that cost no row.

    Raises:
        InputError: the file cannot be read, or breaks off in a way that hides how many rows
            follow (an array or a parquet file that is damaged, UTF-16).
    """
    readers: dict[str, Callable[[Path], Iterator[RawRow | Problem]]] = {
        "lines": read_lines,
        "array": read_array,
        "object": read_object,
        "columns": read_columns,
        "table": read_table,
    }
    if source.kind in readers:
        return readers[source.kind](source.path)
    from tspin.data.rows.arrow import read_arrow, read_parquet

    return read_parquet(source.path) if source.kind == "parquet" else read_arrow(source.path)


def read_lines(path: Path) -> Iterator[RawRow | Problem]:
    """The rows of a JSON Lines file; see `read_rows`."""
    with open_bytes(path) as file:
        yield from _read_lines(path, file)


def _read_lines(path: Path, file: IO[bytes]) -> Iterator[RawRow | Problem]:
    decoder = StrictDecoder()
    returns_seen = False
    number = 0
    while line := file.readline(MAX_ROW_BYTES):
        number += 1
        place = Place(path, number)
        if number == 1:
            marked = line
            line = _without_mark(path, line)
            if line != marked:
                yield byte_order_mark(path)
        if len(line) == MAX_ROW_BYTES and not line.endswith(b"\n"):
            _skip_line(file)
            yield too_long(place)
            continue
        if line.endswith(b"\r\n") and not returns_seen:
            returns_seen = True
            message = "line ends in CR LF (Windows); end lines with LF alone"
            yield Problem(place, Flaw(Reason.CARRIAGE_RETURNS, None, message), costs_row=False)
        if not line.strip(b" \t\r\n"):
            message = "empty line; expected one JSON object a line"
            yield Problem(place, Flaw(Reason.EMPTY_LINE, None, message), costs_row=False)
            continue
        try:
            yield RawRow(place, decode_line(decoder, line))
        except RowError as error:
            yield Problem(place, error.flaw)


def _without_mark(path: Path, head: bytes) -> bytes:
    if head.startswith(_UTF16_MARKS):
        raise InputError(f"{path}:1: begins with a UTF-16 byte-order mark; save the file as UTF-8")
    return head.removeprefix(_UTF8_MARK)


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
        pass
