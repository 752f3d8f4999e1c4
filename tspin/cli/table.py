"""The table of iterations that ends a run."""

from __future__ import annotations

import json

from rich.table import Table
from rich.text import Text

from tspin.records.estimate import Estimate, read_estimates
from tspin.runs.folder import BASE, RunFolder

__all__ = ["iteration_table", "with_interval"]

_ALWAYS = (
    "nll_per_token",
    "nll_per_token/fitted",
    "temperature/fitted",
    "logps_per_token/annotated",
    "margins/annotated_synthetic",
    "truncated/sampled",
)


def iteration_table(folder: RunFolder) -> Table:
    """One column an iteration, the best one marked; a row for the gate's metric and each other."""
    best = json.loads(folder.best.read_bytes())
    measured = {number: _metrics(folder, number) for number in _numbers(folder)}
    # As Text: what a user named may look like rich's markup, or like the name of an emoji.
    title, caption = str(folder.path), best["stopped"] or ""
    table = Table(title=Text(title, "table.title"), caption=Text(caption, "table.caption"))
    table.add_column("iteration", no_wrap=True)
    for number in measured:
        name = "initial" if number == BASE else str(number)
        marked = f"{name} (best)" if number == best["iteration"] else name
        table.add_column(marked, justify="right", no_wrap=True)
    for name in _names(best["metric"], list(measured.values())):
        table.add_row(
            Text(name.replace("/", "/\n", 1)),
            *(_cell(metrics.get(name)) for metrics in measured.values()),
        )
    return table


def _numbers(folder: RunFolder) -> list[int]:
    return [
        BASE,
        *(number for number in folder.numbers() if folder.iteration(number).model.is_dir()),
    ]


def _metrics(folder: RunFolder, number: int) -> dict[str, Estimate]:
    path = folder.iteration(number).metrics
    return read_estimates(path) if path.is_file() else {}


def _names(gate: str, measured: list[dict[str, Estimate]]) -> list[str]:
    known = {name for metrics in measured for name in metrics}
    exact = sorted(name for name in known if name.startswith("exact_match/"))
    return [name for name in dict.fromkeys([gate, *exact, *_ALWAYS]) if name in known]


def with_interval(metric: Estimate, separator: str = " ") -> str:
    """The value and its interval; a single record has none."""
    if metric.low is None or metric.high is None:
        return _number(metric.value)
    return f"{_number(metric.value)}{separator}[{_number(metric.low)}, {_number(metric.high)}]"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _cell(metric: Estimate | None) -> str:
    return "-" if metric is None else with_interval(metric, separator="\n")
