"""Tables and plain text in Markdown."""

from __future__ import annotations

from tspin.report.overview import Table

__all__ = ["plain", "table_text"]


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
