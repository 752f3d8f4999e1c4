"""`tspin data validate`: every problem of a file of annotated records, with its line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tspin.data.checks import DEFAULT_MAX_CHARS
from tspin.data.counts import ProblemCounts
from tspin.data.duplicates import SeenRecords
from tspin.data.formats.known import FORMATS
from tspin.data.rows.problems import Flaw, Problem, Reason
from tspin.data.rows.reading import read_lines
from tspin.data.rows.row import RawRow
from tspin.data.screening import Screen
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, describe

__all__ = ["ValidationReport", "validate_records"]


@dataclass(frozen=True)
class ValidationReport:
    """What is wrong with a file of annotated records, if anything."""

    path: Path
    rows: int
    valid: int
    problems: tuple[Problem, ...]
    """In the order of the file, as many as were asked for; each has place, field and message."""
    total: int
    """Problems found in all."""
    counts: dict[str, int]
    """Reason to the number of problems."""

    @property
    def ok(self) -> bool:
        """Whether every step will read the file."""
        return self.total == 0


def validate_records(
    path: Path, *, max_chars: int | None = DEFAULT_MAX_CHARS, max_problems: int = 1000
) -> ValidationReport:
    """Check a file of annotated records (JSON Lines) as strictly as every step reads it.

    Stricter than import: each record has an id, and a byte-order mark, empty lines and carriage
    returns are problems too.

    Args:
        path: The file.
        max_chars: Longest record in characters, None for no limit.
        max_problems: How many problems to keep for the table; all are counted.

    Raises:
        InputError: the file is missing, cannot be read, or has no rows.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected annotated records (JSON Lines)")
    counts = ProblemCounts(keep=max_problems)
    reasons: dict[str, int] = {}
    rows = valid = 0
    with SeenRecords() as seen:
        screen = Screen(FORMATS["tspin"], max_chars, seen, finished=True)
        for item in read_lines(path):
            problems = _problems(screen, item)
            is_row = isinstance(item, RawRow) or item.costs_row
            rows += is_row
            valid += is_row and not problems
            for problem in problems:
                counts.add_note(problem)
                reasons[problem.reason] = reasons.get(problem.reason, 0) + 1
    if rows == 0:
        raise InputError(f"{path}: no rows in it; expected annotated records (JSON Lines)")
    return ValidationReport(path, rows, valid, tuple(counts.first), counts.total, reasons)


def _problems(screen: Screen, item: RawRow | Problem) -> list[Problem]:
    if isinstance(item, Problem):
        return [item]
    record = screen.record(item)
    if isinstance(record, list):
        return record
    # The last word has what every step checks by, so that a valid file is one they all read.
    try:
        AnnotatedRecord.model_validate(item.fields)
    except ValidationError as error:
        return [Problem(item.place, Flaw(Reason.WRONG_TYPE, None, describe(error)))]
    return []
