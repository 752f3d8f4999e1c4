"""The comparison's page: one self-contained HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tspin.compare.method_panels import (
    efficiency_panels,
    evaluation_panels,
    gap_panels,
    training_panels,
)
from tspin.compare.tables import cost_table, paired_tables, values_tables
from tspin.files import atomic_file
from tspin.report.html import render
from tspin.report.wording import metric_title

__all__ = ["write_page"]


def write_page(result: dict[str, Any], out: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        result: As `tspin.compare.result.collect` makes it, with `config`.
        out: The file.
    """
    config = result["config"]
    runs = result["arms"][0]["runs"]
    facts = [
        ("Model", config["model"]["path"]),
        ("Methods", str(len(result["arms"]))),
        ("Seeds", ", ".join(str(run["seed"]) for run in runs)),
        ("Iterations", str(config["iterations"])),
    ]
    page = render(
        "compare.html.j2",
        name=out.parent.name,
        seeds=len(runs),
        lede=_lede(result),
        facts=facts,
        confidence=f"{config['evaluate']['confidence']:.0%}",
        values=values_tables(result),
        paired=paired_tables(result),
        cost=cost_table(result),
        evaluation=list(evaluation_panels(result)),
        efficiency=list(efficiency_panels(result)),
        training=list(training_panels(result)),
        gaps=list(gap_panels(result)),
        notes=_notes(result),
        config=json.dumps(config, indent=2, sort_keys=True),
    )
    with atomic_file(out) as file:
        file.write(page.encode())


def _lede(result: dict[str, Any]) -> str:
    """Which differences there are in the gate's metric on the held-out records, after the last."""
    metric, against = result["config"]["gate"]["metric"], result["against"]
    over = "seeds" if len(result["arms"][0]["runs"]) > 1 else "records"
    up = result["config"]["gate"]["direction"] == "max"
    told = []
    for row in result["paired"]:
        question = ("heldout", "last", metric, over)
        if (row["dataset"], row["moment"], row["metric"], row["over"]) != question:
            continue
        if row["low"] is None or row["low"] <= 0 <= row["high"]:
            told.append(f"{row['arm']} and {against} cannot be told apart")
        else:
            better = (row["value"] > 0) == up
            told.append(f"{row['arm']} is {'better' if better else 'worse'} than {against}")
    if not told:
        return f"{metric_title(metric)}: nothing pairs; see the intervals below."
    return f"{metric_title(metric)}, held out, after the last iteration: {'; '.join(told)}."


def _notes(result: dict[str, Any]) -> dict[str, str]:
    """What one has to know of the figures: steps taken, seeds that stopped early."""
    steps = (
        f"{arm['name']} {_range([count for part in arm['training'] for count in part['steps']])}"
        for arm in result["arms"]
    )
    early = [
        f"{arm['name']}, seed {run['seed']}, after {run['iterations']}"
        for arm in result["arms"]
        for run in arm["runs"]
        if run["stopped"]
    ]
    stopped = (
        f"Stopped early, and in the figures only as far as they came: {'; '.join(early)}."
        if early
        else ""
    )
    return {"steps": f"Optimiser steps an iteration: {', '.join(steps)}.", "stopped": stopped}


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
