"""A run in a page of Markdown: what a pull request or a pipeline's step shows."""

from __future__ import annotations

from pathlib import Path

from tspin.files import atomic_file
from tspin.report.markdown import plain, table_text
from tspin.report.overview import facts, headline_metrics, measurements, state, verdict, warnings
from tspin.report.wording import METHODS
from tspin.runs.history import read_history

__all__ = ["write_summary"]


def write_summary(run_dir: Path, out: Path) -> None:
    """Write the verdict, the facts and the first table of the report as Markdown.

    Args:
        run_dir: A run folder, or the history that `tspin.runs.gate.gate` keeps.
        out: The file; appears whole or not at all.

    Raises:
        InputError: no such folder, no config.json in it, or a file in it is damaged.
    """
    history = read_history(run_dir, samples=0)
    method = METHODS[history.config.train.method]
    parts = [f"# {method}: {plain(history.name)}", plain(verdict(history)), state(history)]
    parts += [f"> **Warning:** {plain(warning)}" for warning in warnings(history)]
    parts.append("\n".join(f"- {name}: {plain(value)}" for name, value in facts(history)))
    table = measurements(history, headline_metrics(history))
    if table.titles:
        parts.append(table_text(table))
    with atomic_file(out) as file:
        file.write(("\n\n".join(parts) + "\n").encode())
