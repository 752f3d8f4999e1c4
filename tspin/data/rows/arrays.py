"""The rows of a file that is one JSON array, however it is broken into lines."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tspin.data.rows.json_text import StrictDecoder, require_object
from tspin.data.rows.opening import open_bytes
from tspin.data.rows.problems import Flaw, Place, Problem, Reason, RowError
from tspin.data.rows.row import MAX_ROW_BYTES, RawRow, byte_order_mark
from tspin.errors import InputError, located

__all__ = ["Window", "element", "elements", "read_array", "windows"]

_BLOCK = 1 << 20
_WHITE = " \t\r\n"


def read_array(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the elements of a JSON array with the line each begins on; see `read_rows`.

    Raises:
        InputError: the array's structure breaks, so that what follows cannot be told apart.
    """
    with open_bytes(path) as file:
        marked, window = windows(path, file)
        if marked:
            yield byte_order_mark(path)
        decoder = StrictDecoder()
        for place, value in elements(window, decoder):
            try:
                if isinstance(value, RowError):
                    raise value
                yield RawRow(place, require_object(value))
            except RowError as error:
                yield Problem(place, error.flaw)
        window.expect_end()


def windows(path: Path, file: IO[bytes]) -> tuple[bool, Window]:
    """Whether a file begins with a byte-order mark, and a window on what comes after it."""
    head = file.read(3)
    marked = head == codecs.BOM_UTF8
    return marked, Window(path, file, b"" if marked else head, offset=3 * marked)


class Window:
    """The part of the text that is in memory, the position in it, and the line of that.

    Args:
        path: Of the file, for messages.
        file: Open for reading bytes.
        head: What was read of it before, and belongs to the text.
        offset: Bytes of the file before `head`.
    """

    def __init__(self, path: Path, file: IO[bytes], head: bytes = b"", offset: int = 0) -> None:
        self.path = path
        self.text = ""
        self.position = 0
        self.line = 1
        self.at_end = False
        self.offset = offset
        """Of the position, in bytes of the file."""
        self._file = file
        self._head = head
        # Bytes that are not UTF-8 become surrogates: their row is refused, the others are read.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def grow(self) -> bool:
        """Read on, by at least as much as is unread in memory; False at the end of the file."""
        if self.at_end:
            return False
        unread = self.text[self.position :]
        block = self._head + self._file.read(max(_BLOCK, len(unread)))
        self._head = b""
        self.at_end = not block
        self.text = unread + self._utf8.decode(block, final=self.at_end)
        self.position = 0
        return True

    def advance(self, end: int) -> None:
        """Move on to `end`, counting the lines that are passed."""
        passed = self.text[self.position : end]
        self.line += passed.count("\n")
        ascii_ = passed.isascii()
        self.offset += len(passed if ascii_ else passed.encode("utf-8", "surrogateescape"))
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

    def expect_end(self) -> None:
        """Refuse text after the end of the JSON value."""
        rest = self.next_mark()
        if rest:
            raise located(self.path, self.line, f"text after the closing bracket: {rest!r}")

    def error(self, what: str) -> InputError:
        """The error of an array whose structure breaks here."""
        message = f"broken JSON array: {what}; the rows after it cannot be told apart"
        return located(self.path, self.line, message)


def elements(window: Window, decoder: StrictDecoder) -> Iterator[tuple[Place, Any | RowError]]:
    """Yield the elements of the array at the window, each with its place, or what is wrong in it.

    Raises:
        InputError: the array's structure breaks.
    """
    window.expect("[", "expected '[' and objects, separated by commas")
    row = 0
    if window.next_mark() == "]":
        window.expect("]", "")
        return
    mark = ","
    while mark == ",":
        row += 1
        window.next_mark()
        place = Place(window.path, window.line, row)
        try:
            value = element(window, decoder)
        except RowError as error:
            value = error
        yield place, value
        mark = window.expect(",]", "expected ',' or the closing ']'")


def element(window: Window, decoder: StrictDecoder) -> Any:
    """The JSON value at the window, which moves on behind it.

    Raises:
        RowError: the value is whole, but damaged.
        InputError: it is not whole.
    """
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
