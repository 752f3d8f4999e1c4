"""A run as Markdown: its summary, its tables, its plain text."""

from __future__ import annotations

from pathlib import Path

from tspin.files import atomic_file
from tspin.report.overview import (
    Table,
    facts,
    headline_metrics,
    measurements,
    state,
    verdict,
    warnings,
)
from tspin.report.wording import METHODS
from tspin.runs.history import read_history

__all__ = ["plain", "table_text", "write_summary"]


def table_text(table: Table) -> str:
    """Metrics by iteration, the best one marked."""
    lines = [_line(["Iteration", *table.titles]), _line(["---"] * (len(table.titles) + 1))]
    for row in table.rows:
        label = f"**{row.label}** (best)" if row.best else row.label
        cells = [f"{value} {interval}".strip() for value, interval in row.cells]
        lines.append(_line([label, *cells]))
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text that neither ends a table's cell nor begins markup of its own."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(plain(cell) for cell in cells)} |"


def write_summary(run_dir: Path, out: Path, *, begun: Path | None = None) -> None:
    """Write the verdict, the facts and the first table of the report as Markdown.

    Args:
        run_dir: A run folder, or the history that `tspin.runs.gate.gate` keeps.
        out: The file; appears whole or not at all.
        begun: Responses of an iteration that the gate let go no further, where they are not in the
            folder.

    Raises:
        InputError: no such folder, no config.json in it, or a file in it is damaged.
    """
    history = read_history(run_dir, samples=0, begun=begun)
    method = METHODS[history.config.train.method]
    parts = [f"# {method}: {plain(history.name)}", plain(verdict(history)), state(history)]
    parts += [f"> **Warning:** {plain(warning)}" for warning in warnings(history)]
    parts.append("\n".join(f"- {name}: {plain(value)}" for name, value in facts(history)))
    table = measurements(history, headline_metrics(history))
    if table.titles:
        parts.append(table_text(table))
    with atomic_file(out) as file:
        file.write(("\n\n".join(parts) + "\n").encode())
