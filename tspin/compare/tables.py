"""The tables of a comparison, for its page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tspin.records.estimate import Estimate
from tspin.report.wording import metric_title, shown

__all__ = [
    "MOMENT_WORDS",
    "MethodRow",
    "Part",
    "cost_table",
    "headlines",
    "paired_tables",
    "summary_table",
    "values_tables",
]

_HEADLINES = (
    "exact_match/",
    "nll_per_token",
    "temperature/fitted",
    "lm_eval/paper/average",
    "response_tokens/greedy",
    "truncated/sampled",
)
MOMENT_WORDS = {
    "best": "after the iteration that was best on the held-out records",
    "last": "after the last iteration",
}


@dataclass(frozen=True)
class MethodRow:
    """Each cell is a value and its interval, either may be empty."""

    label: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class Part:
    """One table with its words."""

    title: str
    note: str
    columns: list[str]
    rows: list[MethodRow]


def headlines(result: dict[str, Any], dataset: str) -> list[str]:
    """The metrics that tables show, the gate's first."""
    names = list(result["arms"][0]["values"][dataset]["last"])
    gate = result["config"]["gate"]["metric"]
    chosen = [name for start in _HEADLINES for name in names if name.startswith(start)]
    return list(dict.fromkeys(name for name in [gate, *chosen] if name in names))


def summary_table(result: dict[str, Any]) -> Part:
    """The gate's metric, its paired differences and the cost in one table: the terminal's."""
    metric, against = result["config"]["gate"]["metric"], result["against"]
    over = "seeds" if len(result["arms"][0]["runs"]) > 1 else "records"
    datasets = list(result["arms"][0]["values"])
    rows = [
        MethodRow(
            "initial policy", [*_gate_cells(result["arms"][0], datasets, metric, ["base"] * 2)]
        )
    ]
    for arm in result["arms"]:
        cells = _gate_cells(arm, datasets, metric, ["best", "last"])
        differences = _paired_rows(result, "heldout", "last", over).get(arm["name"], {})
        cells += _cells(differences, [metric])
        rows.append(MethodRow(arm["name"], cells))
    cost = cost_table(result)
    width = len(rows[1].cells)
    rows = [
        MethodRow(row.label, [*row.cells, *[("", "")] * (width - len(row.cells)), *spent])
        for row, spent in zip(rows, [[("", "")] * 5, *(r.cells for r in cost.rows)], strict=True)
    ]
    titles = [f"{dataset}, {moment}" for dataset in datasets for moment in ("best", "last")]
    return Part(
        metric_title(metric),
        f"Differences are on the held-out records, paired over {over}. The page has the rest.",
        ["Method", *titles, f"last minus {against}", *cost.columns[1:]],
        rows,
    )


def _gate_cells(
    arm: dict[str, Any], datasets: Sequence[str], metric: str, moments: Sequence[str]
) -> list[tuple[str, str]]:
    return [
        cell
        for dataset in datasets
        for moment in moments
        for cell in _cells(arm["values"][dataset][moment], [metric])
    ]


def values_tables(result: dict[str, Any]) -> list[Part]:
    """By set and moment: one row a method, the initial policy first."""
    return [
        _values(result, dataset, moment)
        for dataset in result["arms"][0]["values"]
        for moment in MOMENT_WORDS
    ]


def _values(result: dict[str, Any], dataset: str, moment: str) -> Part:
    names = headlines(result, dataset)
    arms = result["arms"]
    initial = arms[0]["values"][dataset]["base"]
    rows = [MethodRow("initial policy", _cells(initial, names))]
    rows += [MethodRow(arm["name"], _cells(arm["values"][dataset][moment], names)) for arm in arms]
    seeds = len(arms[0]["runs"])
    over = "records" if seeds == 1 else f"{seeds} seeds"
    note = f"{MOMENT_WORDS[moment].capitalize()}; intervals are over {over}."
    titles = [metric_title(name) for name in names]
    return Part(f"{dataset}, {moment}", note, ["Method", *titles], rows)


def paired_tables(result: dict[str, Any]) -> list[Part]:
    """Differences to the method that the others are set against, over seeds or else records."""
    over = "seeds" if len(result["arms"][0]["runs"]) > 1 else "records"
    parts = []
    for dataset in result["arms"][0]["values"]:
        names = headlines(result, dataset)
        for moment, words in MOMENT_WORDS.items():
            rows = _paired_rows(result, dataset, moment, over)
            shown_names = [name for name in names if any(name in row for row in rows.values())]
            if shown_names:
                parts.append(
                    Part(
                        f"{dataset}, {moment}: minus {result['against']}",
                        f"{words.capitalize()}, paired over {over}; an interval without 0 is a "
                        "difference.",
                        ["Method", *map(metric_title, shown_names)],
                        [MethodRow(arm, _cells(row, shown_names)) for arm, row in rows.items()],
                    )
                )
    return parts


def _paired_rows(
    result: dict[str, Any], dataset: str, moment: str, over: str
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for row in result["paired"]:
        if (row["dataset"], row["moment"], row["over"]) == (dataset, moment, over):
            numbers = {key: row[key] for key in ("value", "low", "high", "n")}
            rows.setdefault(row["arm"], {})[row["metric"]] = numbers
    return rows


def cost_table(result: dict[str, Any]) -> Part:
    """Means over the seeds."""
    titles = ["Epochs an iteration", "Tokens generated", "Tokens trained", "FLOPs", "Seconds"]
    rows = []
    for arm in result["arms"]:
        runs = arm["runs"]
        costs = [run["cost"] for run in runs]
        seconds = [sum(cost["seconds"].values()) for cost in costs]
        cells = [
            f"{_mean([run['epochs'] for run in runs]):g}",
            f"{_mean([cost['generated_tokens'] for cost in costs]):,.0f}",
            f"{_mean([cost['trained_tokens'] for cost in costs]):,.0f}",
            f"{_mean([cost['flops'] for cost in costs]):.3g}",
            f"{_mean(seconds):,.0f}",
        ]
        rows.append(MethodRow(arm["name"], [(cell, "") for cell in cells]))
    note = (
        "Of a whole run, a mean over the seeds. Tokens and floating-point operations are those of "
        "generation, reference passes and training; the seconds have evaluation in them, too."
    )
    return Part("Cost", note, ["Method", *titles], rows)


def _cells(metrics: dict[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    return [
        shown(name, Estimate(**metrics[name])) if name in metrics else ("", "") for name in names
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
