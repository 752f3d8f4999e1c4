"""`tspin data import`: what other tools have on disk becomes annotated records."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import IO, Literal

import orjson

from tspin.data.checks import DEFAULT_MAX_CHARS
from tspin.data.counts import ImportSummary, ProblemCounts
from tspin.data.duplicates import SeenRecords
from tspin.data.formats.detection import ROWS_LOOKED_AT, detect_format, named_format
from tspin.data.formats.known import Format
from tspin.data.rows.problems import Problem, Reason
from tspin.data.rows.reading import read_rows
from tspin.data.rows.row import RawRow
from tspin.data.rows.sources import SourceFiles, find_sources
from tspin.data.screening import Screen
from tspin.errors import InputError
from tspin.files import atomic_file, sha256_file
from tspin.records.manifest import Manifest, announce, write_manifest
from tspin.records.records import AnnotatedRecord

__all__ = ["OnError", "import_records", "source_hash"]

OnError = Literal["fail", "skip"]

_LOOK_AHEAD = 10 * ROWS_LOOKED_AT


def import_records(
    source: Path,
    out: Path,
    *,
    format: str | None = None,
    on_error: OnError = "fail",
    max_chars: int | None = DEFAULT_MAX_CHARS,
    split: str | None = None,
) -> ImportSummary:
    """Import annotated pairs from a file or a folder (JSON Lines, a JSON array, parquet).

    Rows stream through: memory depends on the longest row, not on the number of rows. `id` is
    kept where it is given (whole numbers as text); otherwise it is a hash of the content.
    A field `prompt_id` names a prompt, not a record, and is not taken for an id.

    Args:
        source: What to read; see `sources.find_sources`.
        out: Where the annotated records go, whole or not at all.
        format: A name from `formats.FORMATS`; None detects it from the first rows.
        on_error: `"fail"` writes nothing if any row has a problem; `"skip"` keeps the good rows
            and counts the others by reason.
        max_chars: Longest record in characters, None for no limit.
        split: Which split of a source folder to read (`train`, `test`, `validation`).

    Raises:
        InputError: the source cannot be read, its format is unknown or ambiguous, no good row is
            left, or a row has a problem and `on_error` is `"fail"`: with the first problems, each
            with file, line, field and what would be right, and the total.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"on_error is {on_error!r}; expected 'fail' or 'skip'")
    if max_chars is not None and max_chars < 1:
        raise InputError(f"max_chars is {max_chars}; expected 1 or more characters")
    sources = find_sources(source, split)
    _refuse_overwriting(source, out)
    with closing(_all_rows(sources)) as rows, SeenRecords() as seen:
        form, items = _with_format(source, rows, format)
        run = _Import(Screen(form, max_chars, seen), on_error)
        with atomic_file(out) as file:
            run.write(items, file)
            run.raise_if_failed(source)
            announce(out)
        summary = run.summary(source, out, form, sources)
        asked = {"format": form.name, "on_error": on_error, "max_chars": max_chars, "split": split}
        counts = {"records": summary.written} | summary.skipped
        inputs = {"source": _hash(sources)}
        made = Manifest(kind="annotated", inputs=inputs, parameters=asked, counts=counts)
        write_manifest(out, made)
    return summary


def source_hash(source: Path, split: str | None = None) -> str:
    """Hex SHA-256 of what an import reads: the content of its files, in their order.

    Raises:
        InputError: as `find_sources`.
    """
    return _hash(find_sources(source, split))


def _hash(sources: SourceFiles) -> str:
    hashes = (sha256_file(file.path) for file in sources.files)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


class _Import:
    """Counts what becomes of each row while the good ones are written."""

    def __init__(self, screen: Screen, on_error: OnError) -> None:
        self.screen = screen
        self.on_error = on_error
        self.lost = ProblemCounts()
        self.written = 0
        self.notes: dict[tuple[Path, Reason], Problem] = {}
        self.note_counts: Counter[str] = Counter()

    def write(self, items: Iterator[RawRow | Problem], file: IO[bytes]) -> None:
        for item in items:
            record = self.screen.record(item) if isinstance(item, RawRow) else item
            if isinstance(record, AnnotatedRecord):
                self.written += 1
                file.write(orjson.dumps(record.as_json()) + b"\n")
            elif isinstance(record, list):
                self.lost.add_row(record)
            elif record.costs_row:
                self.lost.add_row([record])
            else:
                self.notes.setdefault((record.place.file, record.reason), record)
                self.note_counts[record.reason] += 1

    def raise_if_failed(self, source: Path) -> None:
        if self.lost.rows == 0 and self.written == 0:
            raise InputError(f"{source}: no rows in it; expected at least one")
        if self.lost.rows == 0 or (self.on_error == "skip" and self.written):
            return
        rows = self.lost.rows + self.written
        hint = "; --on-error skip keeps the good rows" if self.on_error == "fail" else ""
        raise InputError(
            f"{source}: {self.lost.rows:,} of {rows:,} rows have problems, nothing was written"
            f"{hint} ({', '.join(self.lost.table())}):\n{self.lost.listing()}"
        )

    def summary(self, source: Path, out: Path, form: Format, sources: SourceFiles) -> ImportSummary:
        return ImportSummary(
            source=source,
            out=out,
            format=form.name,
            files=tuple(file.path for file in sources.files),
            rows=self.written + self.lost.rows,
            written=self.written,
            skipped={str(reason): rows for reason, rows in self.lost.by_reason.most_common()},
            problems=tuple(self.lost.first),
            notes=tuple(self.notes.values()),
            note_counts=dict(self.note_counts),
            ignored_fields=dict(self.screen.ignored.most_common()),
            ignored_files=sources.ignored,
        )


def _all_rows(sources: SourceFiles) -> Generator[RawRow | Problem, None, None]:
    for file in sources.files:
        yield from read_rows(file)


def _with_format(
    source: Path, rows: Iterator[RawRow | Problem], name: str | None
) -> tuple[Format, Iterator[RawRow | Problem]]:
    """The format, and all rows again: those that were looked at and those to come."""
    if name is not None:
        return named_format(name), rows
    head: list[RawRow | Problem] = []
    rows_read: list[RawRow] = []
    for item in rows:
        head.append(item)
        if isinstance(item, RawRow):
            rows_read.append(item)
        if len(rows_read) == ROWS_LOOKED_AT or len(head) == _LOOK_AHEAD:
            break
    if not rows_read:
        counts = ProblemCounts()
        for item in head:
            if isinstance(item, Problem):
                counts.add_note(item)
        listed = f":\n{counts.listing()}" if counts.total else ""
        raise InputError(f"{source}: no rows in it that can be read{listed}")
    return detect_format(str(source), (row.fields for row in rows_read)), chain(head, rows)


def _refuse_overwriting(source: Path, out: Path) -> None:
    inside = source.is_dir() and source.resolve() in out.resolve().parents
    if out.resolve() == source.resolve() or inside:
        raise InputError(f"{out}: the output would stand in the source {source}; name another file")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name the file to write")
