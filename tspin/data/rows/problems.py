"""What can be wrong with a row: where it stands, which field, and what would be right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

__all__ = ["Flaw", "Place", "Problem", "Reason", "RowError", "printable"]


class Reason(StrEnum):
    """The kinds of problems, as the tables count them."""

    NOT_UTF8 = "not UTF-8"
    BROKEN_JSON = "broken JSON"
    BROKEN_TABLE = "broken table"
    NOT_AN_OBJECT = "not an object"
    OTHER_FORMAT = "another format"
    MISSING_FIELD = "missing field"
    EXTRA_FIELD = "extra field"
    WRONG_TYPE = "wrong type"
    WRONG_ROLES = "wrong roles"
    NOT_TEXT = "not text"
    LABELLED_BAD = "labelled bad"
    CONTRADICTION = "contradicting fields"
    EMPTY_PROMPT = "empty prompt"
    EMPTY_TURN = "empty turn"
    EMPTY_RESPONSE = "empty response"
    RESPONSE_IS_PROMPT = "response identical to the prompt"
    OVER_LONG = "over-long"
    LONE_SURROGATE = "lone surrogate"
    DUPLICATE_ID = "duplicate id"
    DUPLICATE_CONTENT = "duplicate content"
    BYTE_ORDER_MARK = "byte-order mark"
    CARRIAGE_RETURNS = "carriage returns"
    EMPTY_LINE = "empty line"


class Place(NamedTuple):
    """Where a row stands."""

    file: Path
    line: int | None
    """1-based line of a text file; None in parquet."""
    row: int | None = None
    """1-based element of a JSON array or row of a parquet file; None in JSON Lines."""

    def __str__(self) -> str:
        """`file:line`, the form that editors can jump to, and the row's number if it has one."""
        at = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return at if self.row is None else f"{at} (row {self.row})"


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a row, wherever it stands."""

    reason: Reason
    field: str | None
    """The field as a path, such as `real[2].role`; None if the whole row is meant."""
    message: str
    """What was found and what would be right."""


class RowError(Exception):
    """A row cannot be read as a record. Becomes a `Problem` of it, never leaves the package."""

    def __init__(self, reason: Reason, field: str | None, message: str) -> None:
        super().__init__(message)
        self.flaw = Flaw(reason, field, message)


@dataclass(frozen=True, slots=True)
class Problem:
    """A flaw with its place."""

    place: Place
    flaw: Flaw
    costs_row: bool = True
    """False where the file's form is off but no row is lost by it, as with an empty line."""
    on_purpose: bool = False
    """True where the row is left out because that is what it, or the user, asks for."""

    @property
    def reason(self) -> Reason:
        """The kind of problem."""
        return self.flaw.reason

    def __str__(self) -> str:
        """One line: place, field, what is wrong and what would be right."""
        field = f"field '{printable(self.flaw.field)}' " if self.flaw.field else ""
        return f"{self.place}: {field}{printable(self.flaw.message, 500)}"


def printable(text: str, limit: int = 80) -> str:
    """`text` cut to `limit` characters, with what no terminal can print as escapes."""
    cut = text if len(text) <= limit else f"{text[: limit - 3]}..."
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")
