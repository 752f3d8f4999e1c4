"""The rows of a file that is one JSON array, however it is broken into lines."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tspin.data.rows.json_text import StrictDecoder, require_object
from tspin.data.rows.problems import Flaw, Place, Problem, Reason, RowError
from tspin.data.rows.row import MAX_ROW_BYTES, RawRow, byte_order_mark
from tspin.errors import InputError, located

__all__ = ["read_array"]

_BLOCK = 1 << 20
_WHITE = " \t\r\n"


def read_array(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the elements of a JSON array with the line each begins on; see `read_rows`.

    Raises:
        InputError: the array's structure breaks, so that what follows cannot be told apart.
    """
    try:
        with path.open("rb") as file:
            if file.read(3) == codecs.BOM_UTF8:
                yield byte_order_mark(path)
            else:
                file.seek(0)
            yield from _elements(_Window(path, file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


class _Window:
    """The part of the text that is in memory, the position in it, and the line of that."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.text = ""
        self.position = 0
        self.line = 1
        self.at_end = False
        self._file = file
        # Bytes that are not UTF-8 become surrogates: their row is refused, the others are read.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def grow(self) -> bool:
        """Read on, by at least as much as is unread in memory; False at the end of the file."""
        if self.at_end:
            return False
        unread = self.text[self.position :]
        block = self._file.read(max(_BLOCK, len(unread)))
        self.at_end = not block
        self.text = unread + self._utf8.decode(block, final=self.at_end)
        self.position = 0
        return True

    def advance(self, end: int) -> None:
        """Move on to `end`, counting the lines that are passed."""
        self.line += self.text.count("\n", self.position, end)
        self.position = end

    def next_mark(self) -> str:
        """The next character that is not white space, '' at the end of the file."""
        while True:
            end = self.position
            while end < len(self.text) and self.text[end] in _WHITE:
                end += 1
            self.advance(end)
            if end < len(self.text):
                return self.text[end]
            if not self.grow():
                return ""

    def expect(self, marks: str, right: str) -> str:
        """Pass over the next mark, which must be one of `marks`."""
        mark = self.next_mark()
        if not mark or mark not in marks:
            shown = repr(mark) if mark else "the end of the file"
            raise located(self.path, self.line, f"broken JSON array: found {shown}; {right}")
        self.advance(self.position + 1)
        return mark

    def error(self, what: str) -> InputError:
        message = f"broken JSON array: {what}; the rows after it cannot be told apart"
        return located(self.path, self.line, message)


def _elements(window: _Window) -> Iterator[RawRow | Problem]:
    decoder = StrictDecoder()
    window.expect("[", "expected '[' and objects, separated by commas")
    row = 0
    if window.next_mark() == "]":
        window.expect("]", "")
    else:
        mark = ","
        while mark == ",":
            row += 1
            window.next_mark()
            place = Place(window.path, window.line, row)
            try:
                yield RawRow(place, require_object(_element(window, decoder)))
            except RowError as error:
                yield Problem(place, error.flaw)
            mark = window.expect(",]", "expected ',' or the closing ']'")
    rest = window.next_mark()
    if rest:
        raise located(window.path, window.line, f"text after the closing ']': {rest!r}")


def _element(window: _Window, decoder: StrictDecoder) -> Any:
    while True:
        try:
            value, end, error_inside = decoder.decode_at(window.text, window.position)
            # Up against the edge of the window a number could go on beyond it.
            if end < len(window.text) or window.at_end:
                break
        except json.JSONDecodeError as error:
            if len(window.text) - window.position > MAX_ROW_BYTES and not window.at_end:
                size = f"{MAX_ROW_BYTES // 2**20} MiB"
                raise window.error(f"{error.msg}, in a row of more than {size}") from None
            if window.at_end:
                window.advance(min(error.pos, len(window.text)))
                raise window.error(error.msg) from None
        except RecursionError:
            raise window.error("nested too deeply") from None
        window.grow()
    raw = window.text[window.position : end]
    window.advance(end)
    if not raw.isascii() and (flaw := _undecoded(raw)) is not None:
        raise RowError(flaw.reason, flaw.field, flaw.message)
    if error_inside is not None:
        raise error_inside
    return value


def _undecoded(raw: str) -> Flaw | None:
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(raw[error.start]) - 0xDC00
        message = f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        return Flaw(Reason.NOT_UTF8, None, message)
    return None
