"""The table of iterations that ends a run."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from tspin.run_folder import BASE, RunFolder

__all__ = ["iteration_table", "with_interval"]

_ALWAYS = (
    "nll_per_token",
    "logps_per_token/annotated",
    "margins/annotated_synthetic",
    "truncated/sampled",
)


def iteration_table(folder: RunFolder) -> Table:
    """One row an iteration: the gate's metric, exact matches, likelihoods; the best is marked."""
    best = json.loads(folder.best.read_bytes())
    measured = {number: _metrics(folder, number) for number in _numbers(folder)}
    names = _columns(best["metric"], [metrics for metrics in measured.values() if metrics])
    table = Table(title=str(folder.path), caption=best["stopped"])
    table.add_column("iteration")
    for name in names:
        table.add_column(name.replace("/", "\n"), justify="right")
    for number, metrics in measured.items():
        label = "initial" if number == BASE else str(number)
        marked = f"{label} (best)" if number == best["iteration"] else label
        table.add_row(marked, *(_cell(metrics.get(name)) for name in names))
    return table


def _numbers(folder: RunFolder) -> list[int]:
    made = sorted(int(path.name.removeprefix("iter-")) for path in folder.path.glob("iter-*"))
    return [BASE, *(number for number in made if folder.iteration(number).model.is_dir())]


def _metrics(folder: RunFolder, number: int) -> dict[str, Any]:
    path = folder.iteration(number).metrics
    if not path.is_file():
        return {}
    metrics: dict[str, Any] = json.loads(path.read_bytes())["metrics"]
    return metrics


def _columns(gate: str, measured: list[dict[str, Any]]) -> list[str]:
    known = {name for metrics in measured for name in metrics}
    exact = sorted(name for name in known if name.startswith("exact_match/"))
    wanted = [gate, *exact, *_ALWAYS]
    return [name for name in dict.fromkeys(wanted) if name in known]


def with_interval(metric: dict[str, float | None], separator: str = " ") -> str:
    """`value [low, high]`; a single record has no interval."""
    value = f"{metric['value']:.4f}"
    if metric["low"] is None or metric["high"] is None:
        return value
    return f"{value}{separator}[{metric['low']:.3f}, {metric['high']:.3f}]"


def _cell(metric: dict[str, float | None] | None) -> str:
    return "-" if metric is None else with_interval(metric, separator="\n")
