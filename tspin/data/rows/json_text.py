"""JSON text to rows, strictly: what other parsers change or drop in silence is a problem here.

The standard library's decoder is used because the faster ones hide damage: yajl (behind ijson)
turns a lone surrogate into '?', and both yajl and orjson keep only the last of two equal keys.
"""

from __future__ import annotations

import json
from typing import Any

from tspin.data.rows.problems import Reason, RowError

__all__ = ["StrictDecoder", "decode_line", "require_object"]

_MAX_DIGITS = 4000  # Python refuses to convert longer integers.


class StrictDecoder:
    """Decodes one JSON value at a time and reports repeated keys and NaN or infinities."""

    def __init__(self) -> None:
        self._error: RowError | None = None
        self._json = json.JSONDecoder(
            object_pairs_hook=self._pairs, parse_constant=self._constant, parse_int=_integer
        )

    def decode_at(self, text: str, start: int) -> tuple[Any, int, RowError | None]:
        """The value that begins at `start`, the position after it, and what is wrong with it.

        Raises:
            json.JSONDecodeError: no whole JSON value begins there.
            RecursionError: it is nested too deeply.
        """
        self._error = None
        value, end = self._json.raw_decode(text, start)
        return value, end, self._error

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            self._error = RowError(
                Reason.BROKEN_JSON, twice, "stands twice in one object; keep one of the two"
            )
        return values

    def _constant(self, name: str) -> None:
        self._error = RowError(
            Reason.BROKEN_JSON, None, f"{name} is not JSON; give a number, null or text"
        )


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)


def decode_line(decoder: StrictDecoder, line: bytes) -> dict[str, Any]:
    """The object that one line of JSON Lines holds.

    Raises:
        RowError: the line is not UTF-8, not one whole JSON value, or not an object.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} (byte {error.start + 1} of the line)"
        message = f"{byte} is not UTF-8; save the file as UTF-8"
        raise RowError(Reason.NOT_UTF8, None, message) from None
    stripped = text.strip(" \t\r\n")
    try:
        value, end, error_inside = decoder.decode_at(stripped, 0)
    except json.JSONDecodeError as error:
        message = f"not whole JSON: {error.msg} at character {error.pos + 1}; expected one object"
        raise RowError(Reason.BROKEN_JSON, None, message) from None
    except RecursionError:
        raise RowError(Reason.BROKEN_JSON, None, "nested too deeply to be a record") from None
    if end != len(stripped):
        message = f"text after the end of the JSON value, at character {end + 1}"
        raise RowError(Reason.BROKEN_JSON, None, f"{message}; expected one object a line")
    if error_inside is not None:
        raise error_inside
    return require_object(value)


def require_object(value: Any) -> dict[str, Any]:
    """`value`, if it is an object; otherwise raises a RowError that says what it is."""
    if isinstance(value, dict):
        return value
    message = f"is {value!r:.60}, not an object with named fields"
    if isinstance(value, list):
        message += "; a file that is one JSON array must end in .json"
    raise RowError(Reason.NOT_AN_OBJECT, None, message)
