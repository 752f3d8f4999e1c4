"""The comparison's page: one self-contained HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tspin.compare.tables import cost_table, headlines, paired_tables, values_tables
from tspin.estimate import Estimate
from tspin.figures import Style, by_iteration
from tspin.files import atomic_file
from tspin.html import render
from tspin.panels import Panel
from tspin.wording import GROUPS, is_share, metric_title

__all__ = ["write_page"]

# Mid-tones that keep a contrast of 3 to 1 on white and on near-black; never told by colour alone.
_STYLES = (
    Style("#3987e5", "solid", "circle"),
    Style("#d97030", "dash", "diamond"),
    Style("#2f9e78", "dot", "square"),
    Style("#b05fc7", "dashdot", "triangle-up"),
    Style("#8b8f99", "longdash", "x"),
    Style("#c2548a", "solid", "star"),
    Style("#9a7d1e", "dash", "triangle-down"),
    Style("#5b7f95", "dot", "cross"),
)
_DYNAMICS = (
    "logps_per_token/annotated",
    "margins/annotated_synthetic",
    "margins/synthetic_proto_synthetic",
    "accuracies/annotated_synthetic",
)


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
        lede=_lede(result),
        facts=facts,
        confidence=f"{config['evaluate']['confidence']:.0%}",
        values=values_tables(result),
        paired=paired_tables(result),
        cost=cost_table(result),
        figures=_figures(result),
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
        wanted = ("heldout", "last", metric, over)
        if (row["dataset"], row["moment"], row["metric"], row["over"]) != wanted:
            continue
        if row["low"] is None or row["low"] <= 0 <= row["high"]:
            told.append(f"{row['arm']} and {against} cannot be told apart")
        else:
            better = (row["value"] > 0) == up
            told.append(f"{row['arm']} is {'better' if better else 'worse'} than {against}")
    if not told:
        return f"{metric_title(metric)}: nothing pairs; see the intervals below."
    return f"{metric_title(metric)}, held out, after the last iteration: {'; '.join(told)}."


def _figures(result: dict[str, Any]) -> list[Panel]:
    known = [*headlines(result, "heldout"), *_DYNAMICS]
    panels = []
    for name in dict.fromkeys(known):
        series = {
            arm["name"]: {
                label: Estimate(**metrics[name])
                for label, metrics in arm["by_iteration"].items()
                if name in metrics
            }
            for arm in result["arms"]
        }
        series = {arm: points for arm, points in series.items() if points}
        if not series:
            continue
        words = GROUPS.get(name.split("/")[0])
        figure = by_iteration(
            series,
            styles=[_STYLES[at % len(_STYLES)] for at in range(len(series))],
            unit=words.unit if words else "",
            percent=is_share(name),
        )
        panels.append(Panel(metric_title(name), words.look_for if words else "", figure))
    return panels
