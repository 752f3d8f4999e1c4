"""The rows of a file that is one JSON object: rows under a key, or columns as pandas writes them.

| shape | where it is from |
| --- | --- |
| `{"data": [{...}, ...], ...}` | exports, pandas' `orient="table"` |
| `{"columns": [...], "index": [...], "data": [[...], ...]}` | pandas' `orient="split"` |
| `{"0": {...}, "1": {...}}` | pandas' `orient="index"` |
| `{"prompt": {"0": ..., "1": ...}, "completion": {...}}` | pandas' default |
| `{"prompt": [...], "completion": [...]}` | `Dataset.to_dict` |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Literal

from tspin.data.rows.arrays import Window, element, elements, windows
from tspin.data.rows.json_text import StrictDecoder, require_object
from tspin.data.rows.opening import open_bytes
from tspin.data.rows.problems import Flaw, Place, Problem, RowError
from tspin.data.rows.row import RawRow, byte_order_mark
from tspin.errors import InputError, located

__all__ = ["object_kind", "read_columns", "read_object"]

_HOLDERS = ("data", "rows", "records", "examples", "instances", "items")
"""The keys that a file's rows may stand under."""

_MAX_COLUMNS = 256
_EXPECTED = "expected an object of rows or of columns"


def object_kind(head: str) -> Literal["object", "columns"] | None:
    """What an object that a file begins with holds; None where it is a row itself.

    Args:
        head: The beginning of the file, from the `{` on.
    """
    values, followed = _first_object(head)
    if followed or not values:
        return None
    rows = any(key in _HOLDERS and re.match(r"\[\s*\{", text) for key, text in values)
    split = values[0][0] == "columns" and values[0][1][:1] == "["
    index = all(key.isdecimal() and text[:1] == "{" for key, text in values)
    if rows or split or index:
        return "object"
    cells = all(re.match(r'\{\s*"\d+"\s*:', text) for _, text in values)
    lists = all(re.match(r'\[\s*(["\[\d\-ntf])', text) for _, text in values)
    return "columns" if cells or lists else None


def _first_object(head: str) -> tuple[list[tuple[str, str]], bool]:
    """Keys and beginnings of the values of the first object, and whether another one follows."""
    decoder = json.JSONDecoder()
    values: list[tuple[str, str]] = []
    position = 1
    try:
        while True:
            key, position = decoder.raw_decode(head, _past(head, position))
            position = _past(head, position)
            if not isinstance(key, str) or head[position : position + 1] != ":":
                return [], False
            position = _past(head, position + 1)
            if position < len(head):
                values.append((key, head[position : position + 200]))
            _, position = decoder.raw_decode(head, position)
            position = _past(head, position)
            if head[position : position + 1] != ",":
                return values, head[_past(head, position + 1) :][:1] == "{"
            position += 1
    except (json.JSONDecodeError, RecursionError):
        return values, False


def _past(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def read_object(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the rows that stand in one JSON object; see `reading.read_rows`.

    Raises:
        InputError: the object's structure breaks, or rows stand under two keys.
    """
    with open_bytes(path) as file:
        marked, window = windows(path, file)
        if marked:
            yield byte_order_mark(path)
        decoder = StrictDecoder()
        columns: list[str] | None = None
        holder: str | None = None
        for key in _keys(window, decoder):
            mark, place = window.next_mark(), Place(path, window.line)
            if mark == "[" and key in _HOLDERS:
                if holder is not None:
                    message = f"rows stand under {holder!r} and {key!r}; give each its own file"
                    raise located(path, window.line, message)
                holder = key
                for at, value in elements(window, decoder):
                    yield _row(at, value, columns)
            elif mark == "{" and key.isdecimal():
                yield _row(place._replace(row=int(key) + 1), _value(window, decoder), None)
            elif key == "columns":
                columns = _names(path, _value(window, decoder))
            else:
                _value(window, decoder)
        window.expect_end()


def _keys(window: Window, decoder: StrictDecoder) -> Iterator[str]:
    """The keys of the object at the window, which is to be moved past each value."""
    window.expect("{", _EXPECTED)
    if window.next_mark() == "}":
        window.expect("}", "")
        return
    mark = ","
    while mark == ",":
        window.next_mark()
        key = _value(window, decoder)
        if not isinstance(key, str):
            raise located(window.path, window.line, f"broken JSON: a key is no text; {_EXPECTED}")
        window.expect(":", _EXPECTED)
        yield key
        mark = window.expect(",}", "expected ',' or the closing '}'")


def _value(window: Window, decoder: StrictDecoder) -> Any:
    try:
        return element(window, decoder)
    except RowError as error:
        return error


def _row(place: Place, value: Any, columns: list[str] | None) -> RawRow | Problem:
    try:
        if isinstance(value, RowError):
            raise value
        if columns is not None and isinstance(value, list) and len(value) == len(columns):
            value = dict(zip(columns, value, strict=True))
        return RawRow(place, require_object(value))
    except RowError as error:
        return Problem(place, error.flaw)


def _names(path: Path, value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    raise InputError(f"{path}: 'columns' is {value!r:.80}; expected the names of the columns")


def read_columns(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the rows of columns that stand one after the other in one JSON object.

    The file is read twice: first for where each column begins, then in all columns at once, so
    that memory holds one row.

    Raises:
        InputError: the structure breaks, or the columns differ in their rows.
    """
    begins, marked = _beginnings(path)
    if marked:
        yield byte_order_mark(path)
    with ExitStack() as files:
        columns = {
            name: _cells(Window(path, files.enter_context(open_bytes(path, begin))))
            for name, begin in begins.items()
        }
        for number in count(1):
            cells = {name: next(column, None) for name, column in columns.items()}
            ended = [name for name, cell in cells.items() if cell is None]
            if len(ended) == len(cells):
                return
            indices = {cell[0] for cell in cells.values() if cell is not None}
            if ended or len(indices) > 1:
                raise InputError(
                    f"{path}: the columns {', '.join(map(repr, cells))} differ in their rows, from "
                    f"row {number} on"
                )
            place = Place(path, None, number)
            yield _cells_row(place, {name: cell[1] for name, cell in cells.items() if cell})


def _cells_row(place: Place, cells: dict[str, Any]) -> RawRow | Problem:
    for name, value in cells.items():
        if isinstance(value, RowError):
            flaw = Flaw(value.flaw.reason, name, value.flaw.message)
            return Problem(place, flaw)
    return RawRow(place, cells)


def _beginnings(path: Path) -> tuple[dict[str, int], bool]:
    """In which byte the value of each key begins, and whether the file has a byte-order mark."""
    begins: dict[str, int] = {}
    with open_bytes(path) as file:
        marked, window = windows(path, file)
        for key in _keys(window, StrictDecoder()):
            window.next_mark()
            if key in begins or len(begins) == _MAX_COLUMNS:
                what = f"{key!r} stands twice" if key in begins else "too many columns"
                raise located(path, window.line, f"broken columns: {what}")
            begins[key] = window.offset
            for _ in _cells(window):
                pass
        window.expect_end()
    return begins, marked


def _cells(window: Window) -> Iterator[tuple[str, Any]]:
    """The values of a column, each with its index."""
    decoder = StrictDecoder()
    if window.next_mark() == "[":
        for place, value in elements(window, decoder):
            yield str(place.row), value
        return
    for index in _keys(window, decoder):
        window.next_mark()
        yield index, _value(window, decoder)
