"""`tspin data import`: what other tools have on disk becomes annotated records."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import orjson

from tspin.data.checks import DEFAULT_MAX_CHARS
from tspin.data.counts import ImportSummary, ProblemCounts
from tspin.data.duplicates import SeenRecords
from tspin.data.formats.detection import ROWS_LOOKED_AT, detect_format, named_format
from tspin.data.formats.known import Format
from tspin.data.rows.hub import HubDataset, open_hub
from tspin.data.rows.problems import Problem, Reason
from tspin.data.rows.reading import read_rows
from tspin.data.rows.row import RawRow
from tspin.data.rows.sources import SourceFiles, find_sources
from tspin.data.screening import DEFAULT_CHOICES, Choices, Screen
from tspin.errors import InputError
from tspin.files import atomic_file, sha256_file
from tspin.records.manifest import Manifest, announce, write_manifest

__all__ = ["OnError", "import_records", "source_hash"]

OnError = Literal["fail", "skip"]

_LOOK_AHEAD = 10 * ROWS_LOOKED_AT


def import_records(
    source: Path | HubDataset,
    out: Path,
    *,
    format: str | None = None,
    on_error: OnError = "fail",
    max_chars: int | None = DEFAULT_MAX_CHARS,
    split: str | None = None,
    choices: Choices = DEFAULT_CHOICES,
) -> ImportSummary:
    """Import annotated pairs from a file, a folder, or a data set on the Hub.

    Rows stream through: memory depends on the longest row, not on the number of rows. `id` is
    kept where it is given (whole numbers as text); otherwise it is a hash of the content.
    A field `prompt_id` names a prompt, not a record, and is not taken for an id.

    Args:
        source: What to read; see `sources.find_sources` and `hub.open_hub`.
        out: Where the annotated records go, whole or not at all; of a data set on the Hub with a
            manifest that names the commit.
        format: A name from `formats.FORMATS`; None detects it from the first rows.
        on_error: `"fail"` writes nothing if any row has a problem; `"skip"` keeps the good rows
            and counts the others by reason. Rows labelled bad are left out either way.
        max_chars: Longest record in characters, None for no limit.
        split: Which split of a source to read, as its files name it.
        choices: What becomes of rows that could be taken in more than one way.

    Raises:
        InputError: the source cannot be read, its format is unknown or ambiguous, no good row is
            left, or a row has a problem and `on_error` is `"fail"`: with the first problems, each
            with file, line, field and what would be right, and the total.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"on_error is {on_error!r}; expected 'fail' or 'skip'")
    if max_chars is not None and max_chars < 1:
        raise InputError(f"max_chars is {max_chars}; expected 1 or more characters")
    _refuse_overwriting(source, out)
    opened = _opened(source, split)
    with closing(opened.rows) as rows, SeenRecords() as seen:
        form, items = _with_format(str(source), rows, format)
        run = _Import(Screen(form, max_chars, seen, choices=choices), on_error)
        with atomic_file(out) as file:
            run.write(items, file)
            run.raise_if_failed(str(source))
            announce(out)
    summary = run.summary(out, form, opened)
    asked = {"on_error": on_error, "max_chars": max_chars, **asdict(choices)}
    write_manifest(out, _manifest(opened, summary, asked, split))
    return summary


def _manifest(
    opened: _Opened, summary: ImportSummary, asked: dict[str, Any], split: str | None
) -> Manifest:
    inputs = {"source": _hash(opened.source, opened.files, split)}
    if isinstance(opened.source, HubDataset):
        inputs["hub"] = str(opened.source)
        asked |= {"subset": opened.source.subset}
    return Manifest(
        kind="annotated",
        inputs=inputs,
        parameters={"format": summary.format, "split": opened.split, **asked},
        counts={"records": summary.written, **summary.skipped},
    )


def source_hash(source: Path | HubDataset, split: str | None = None) -> str:
    """Hex SHA-256 of what an import reads: the content of its files, in their order.

    Of a data set on the Hub it is that of its name, which stays when there is a newer commit.

    Raises:
        InputError: as `find_sources`.
    """
    files = SourceFiles((), ()) if isinstance(source, HubDataset) else find_sources(source, split)
    return _hash(source, files, split)


def _hash(source: Path | HubDataset, files: SourceFiles, split: str | None) -> str:
    if isinstance(source, HubDataset):
        text = "\n".join(("hub", source.name, source.subset or "", split or ""))
    else:
        text = "".join(sha256_file(file.path) for file in files.files)
    return hashlib.sha256(text.encode()).hexdigest()


class _Opened(NamedTuple):
    """A source about to be read."""

    source: Path | HubDataset
    split: str | None
    files: SourceFiles
    rows: Generator[RawRow | Problem, None, None]


def _opened(source: Path | HubDataset, split: str | None) -> _Opened:
    if isinstance(source, HubDataset):
        dataset, name, rows = open_hub(source, split)
        return _Opened(dataset, name, SourceFiles((), ()), (row for row in rows))
    files = find_sources(source, split)
    return _Opened(source, split, files, (row for file in files.files for row in read_rows(file)))


class _Import:
    """Counts what becomes of each row while the good ones are written."""

    def __init__(self, screen: Screen, on_error: OnError) -> None:
        self.screen = screen
        self.on_error = on_error
        self.lost = ProblemCounts()
        self.left_out = ProblemCounts()
        self.written = 0
        self.notes: dict[tuple[Path, Reason], Problem] = {}
        self.note_counts: Counter[str] = Counter()

    def write(self, items: Iterator[RawRow | Problem], file: IO[bytes]) -> None:
        for item in items:
            record = self.screen.record(item) if isinstance(item, RawRow) else item
            if isinstance(record, dict):
                self.written += 1
                file.write(orjson.dumps(record) + b"\n")
            elif isinstance(record, list):
                (self.left_out if record[0].on_purpose else self.lost).add_row(record)
            elif record.costs_row:
                self.lost.add_row([record])
            else:
                self.notes.setdefault((record.place.file, record.reason), record)
                self.note_counts[record.reason] += 1

    def raise_if_failed(self, source: str) -> None:
        if self.lost.rows == 0 and self.written == 0 and self.left_out.rows:
            raise InputError(
                f"{source}: none of {self.left_out.rows:,} rows can be an annotation "
                f"({', '.join(self.left_out.table())}):\n{self.left_out.listing()}"
            )
        if self.lost.rows == 0 and self.written == 0:
            raise InputError(f"{source}: no rows in it; expected at least one")
        if self.lost.rows == 0 or (self.on_error == "skip" and self.written):
            return
        rows = self.lost.rows + self.left_out.rows + self.written
        hint = "; --on-error skip keeps the good rows" if self.on_error == "fail" else ""
        raise InputError(
            f"{source}: {self.lost.rows:,} of {rows:,} rows have problems, nothing was written"
            f"{hint} ({', '.join(self.lost.table())}):\n{self.lost.listing()}"
        )

    def summary(self, out: Path, form: Format, opened: _Opened) -> ImportSummary:
        skipped = self.lost.by_reason + self.left_out.by_reason
        return ImportSummary(
            source=opened.source,
            out=out,
            format=form.name,
            files=tuple(file.path for file in opened.files.files),
            rows=self.written + skipped.total(),
            written=self.written,
            skipped={str(reason): rows for reason, rows in skipped.most_common()},
            problems=(*self.lost.first, *self.left_out.first),
            notes=tuple(self.notes.values()),
            note_counts=dict(self.note_counts + self.screen.changed),
            ignored_fields=dict(self.screen.ignored.most_common()),
            ignored_files=opened.files.ignored,
            thoughts=self.screen.thoughts,
        )


def _with_format(
    source: str, rows: Iterator[RawRow | Problem], name: str | None
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
    return detect_format(source, (row.fields for row in rows_read)), chain(head, rows)


def _refuse_overwriting(source: Path | HubDataset, out: Path) -> None:
    if isinstance(source, Path):
        inside = source.is_dir() and source.resolve() in out.resolve().parents
        if out.resolve() == source.resolve() or inside:
            raise InputError(
                f"{out}: the output would stand in the source {source}; name another file"
            )
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name the file to write")
