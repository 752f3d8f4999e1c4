"""What an import did: how many rows were written, and what became of the others and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tspin.data.rows.hub import HubDataset
from tspin.data.rows.problems import Problem, Reason, printable

__all__ = ["ImportSummary", "ProblemCounts"]

_SHOWN = 20


@dataclass
class ProblemCounts:
    """Problems as they are found: all are counted, the first ones are kept."""

    keep: int = _SHOWN
    first: list[Problem] = field(default_factory=list)
    total: int = 0
    rows: int = 0
    """Rows that are lost by them."""
    by_reason: Counter[Reason] = field(default_factory=Counter)
    """Lost rows by the reason of their first problem; adds up to `rows`."""

    def add_row(self, problems: list[Problem]) -> None:
        """Add all problems of one row that is lost by them."""
        self.rows += 1
        self.by_reason[problems[0].reason] += 1
        self._keep(problems)

    def add_note(self, problem: Problem) -> None:
        """Add a problem that costs no row."""
        self._keep([problem])

    def _keep(self, problems: list[Problem]) -> None:
        self.total += len(problems)
        self.first += problems[: max(0, self.keep - len(self.first))]

    def table(self) -> list[str]:
        """`reason: rows`, most frequent first."""
        return [f"{reason}: {rows:,}" for reason, rows in self.by_reason.most_common()]

    def listing(self) -> str:
        """The first problems, one a line, and how many more there are."""
        lines = [f"  {problem}" for problem in self.first]
        hidden = self.total - len(self.first)
        if hidden:
            lines.append(f"  ... and {hidden:,} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class ImportSummary:
    """The result of one import; every row that was read is either written or counted here."""

    source: Path | HubDataset
    """Of the Hub: at the commit that was read."""
    out: Path
    format: str
    files: tuple[Path, ...]
    rows: int
    """Rows read, empty lines not counted."""
    written: int
    skipped: dict[str, int]
    """Reason to the number of rows left out; with on_error="fail" these are left out on purpose."""
    problems: tuple[Problem, ...]
    """The first problems of the rows left out."""
    notes: tuple[Problem, ...]
    """Problems that cost no row, such as a byte-order mark; the first of each file and kind."""
    note_counts: dict[str, int]
    """Reason to how often it occurred, for the notes."""
    ignored_fields: dict[str, int]
    """Fields that records have no place for, with the number of rows that had them."""
    ignored_files: tuple[Path, ...]
    """Files of the source folder that were not read."""
    thoughts: int = 0
    """Records whose response has a thought before it."""

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "source": str(self.source),
            "out": str(self.out),
            "format": self.format,
            "files": [str(path) for path in self.files],
            "rows": self.rows,
            "written": self.written,
            "skipped": self.skipped,
            "problems": [str(problem) for problem in self.problems],
            "notes": [str(problem) for problem in self.notes],
            "note_counts": self.note_counts,
            "ignored_fields": self.ignored_fields,
            "ignored_files": [str(path) for path in self.ignored_files],
            "thoughts": self.thoughts,
        }

    def lines(self) -> list[str]:
        """The summary for a person, nothing left out."""
        lines = [
            f"format {self.format}: {self.written:,} of {self.rows:,} rows written to {self.out}"
        ]
        if isinstance(self.source, HubDataset):
            lines.append(f"from {self.source}")
        skipped = sum(self.skipped.values())
        if skipped:
            lines.append(f"skipped {skipped:,} rows:")
            lines += [f"  {reason}: {rows:,}" for reason, rows in self.skipped.items()]
            lines += [f"  {problem}" for problem in self.problems]
        lines += [f"note: {problem}" for problem in self.notes]
        lines += [f"note: {count:,} x {reason}" for reason, count in self.note_counts.items()]
        if self.thoughts:
            lines.append(
                f"note: {self.thoughts:,} records have a thought before the response "
                "(reasoning_content); training refuses them unless prompt.reasoning is keep or drop"
            )
        if self.ignored_fields:
            lines.append("fields that records have no place for, left out:")
            lines += [
                f"  {printable(name)}: {rows:,} rows" for name, rows in self.ignored_fields.items()
            ]
        lines += [f"not read: {path}" for path in self.ignored_files]
        return lines
