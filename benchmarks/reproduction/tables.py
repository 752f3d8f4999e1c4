"""Tables of Markdown, and a value with its interval in a cell of one."""

from __future__ import annotations

from collections.abc import Sequence

from tspin.records.estimate import Estimate

__all__ = ["shown", "table"]


def shown(estimate: Estimate) -> str:
    """Value (low to high)."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One line a row."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
