"""Which figures the report shows, and the one sentence with each that says what to look for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tspin.records.estimate import Estimate
from tspin.records.training_log import GAPS, final_mean
from tspin.report.figures import Curve, by_iteration, over_steps, style_of
from tspin.report.wording import GROUPS, Wording, is_share, metric_title, rank, series_title
from tspin.runs.history import History

__all__ = ["Panel", "evaluation_panels", "gap_panels", "length_panels", "training_panels"]

_ROLES = ("annotated", "synthetic", "proto_synthetic")
_ELSEWHERE = ("logps", "margins", "response_tokens")
"""Groups of held-out metrics with a place of their own in the page, or none."""


@dataclass(frozen=True)
class Panel:
    """One figure with its words."""

    title: str
    look_for: str
    figure: go.Figure
    wide: bool = False


def evaluation_panels(history: History) -> list[Panel]:
    """The gate's metric, large, then every other held-out metric in its group."""
    gate = history.config.gate
    names = list(dict.fromkeys(name for played in history.played for name in played.metrics))
    panels = []
    if gate.metric in names:
        better = "rise" if gate.direction == "max" else "fall"
        panels.append(
            Panel(
                metric_title(gate.metric),
                f"This metric decides which model is the best. Look for a {better} from base, the "
                "model that the run began with, to points whose intervals no longer meet it.",
                _metrics_figure(history, {"": gate.metric}, gate.metric, height=360),
                wide=True,
            )
        )
    groups: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        group, _, series = name.rpartition("/") if "/" in name else (name, "", "")
        groups.setdefault(group, {})[series] = name
    # Known groups in the order of their wording, others after them.
    for group in sorted(groups, key=rank):
        members = groups[group]
        if group not in _ELSEWHERE and set(members.values()) != {gate.metric}:
            panels.append(_group_panel(history, group, members))
    return panels


def gap_panels(history: History) -> Iterator[Panel]:
    """logp(y) - logp(y') and logp(y') - logp(y0), held out and in training."""
    members = _members(history, "margins")
    if members:
        panel = _group_panel(history, "margins", members)
        panel.figure.add_hline(0, line={"width": 2}, layer="below")
        yield panel
    series = {
        series_title(f"margins/{gap}"): _ends(history, f"logps/{better}", f"logps/{worse}")
        for gap, (better, worse) in GAPS.items()
    }
    known = {name: points for name, points in series.items() if points}
    if known:
        styles = [style_of("", position) for position in range(len(known))]
        words = GROUPS["training_gaps"]
        figure = by_iteration(known, styles=styles, unit=words.unit)
        figure.add_hline(0, line={"width": 2}, layer="below")
        yield Panel(words.title, words.look_for, figure)


def length_panels(history: History) -> Iterator[Panel]:
    """Response lengths on held-out prompts, and of what was trained on."""
    members = _members(history, "response_tokens")
    if members:
        yield _group_panel(history, "response_tokens", members)
    series = {role: _ends(history, f"lengths/{role}") for role in _ROLES}
    known = {role: points for role, points in series.items() if points}
    if known:
        words = GROUPS["lengths"]
        figure = by_iteration(
            {series_title(role): points for role, points in known.items()},
            styles=[style_of(role, 0) for role in known],
            unit=words.unit,
        )
        yield Panel(words.title, words.look_for, figure)


def training_panels(history: History) -> Iterator[Panel]:
    """Likelihoods, rewards, shares and loss over the optimiser steps."""
    for group in ("logps", "logps_per_token", "rewards"):
        names = {role: f"{group}/{role}" for role in _ROLES}
        yield from _curves_panel(history, f"training_{group}", names)
    higher = {"higher_but_less_likely": "rewards/higher_but_less_likely"}
    yield from _curves_panel(history, "training_higher_but_less_likely", higher)
    shares = {"accuracies": "rewards/accuracies", "saturated": "rewards/saturated"}
    yield from _curves_panel(history, "training_shares", {**shares, "identical": "identical"})
    yield from _curves_panel(history, "training_loss", {"loss": "loss"})


def _members(history: History, group: str) -> dict[str, str]:
    names = dict.fromkeys(name for played in history.played for name in played.metrics)
    return {name.removeprefix(f"{group}/"): name for name in names if name.startswith(f"{group}/")}


def _group_panel(history: History, group: str, members: Mapping[str, str]) -> Panel:
    words = GROUPS.get(group.split("/")[0], Wording(metric_title(group), "", ""))
    title = metric_title(group)
    return Panel(title, words.look_for, _metrics_figure(history, members, group))


def _metrics_figure(
    history: History, members: Mapping[str, str], group: str, *, height: int | None = None
) -> go.Figure:
    words = GROUPS.get(group.split("/")[0])
    points = {
        series_title(f"margins/{series}" if group == "margins" else series): {
            played.label: played.metrics[name]
            for played in history.played
            if name in played.metrics
        }
        for series, name in members.items()
    }
    size = {} if height is None else {"height": height}
    return by_iteration(
        points,
        styles=[style_of(series, position) for position, series in enumerate(members)],
        unit=words.unit if words else "",
        percent=is_share(group),
        **size,
    )


def _curves_panel(history: History, group: str, names: Mapping[str, str]) -> Iterator[Panel]:
    logs = [played.steps for played in history.iterations if played.steps]
    present = {
        series: name
        for series, name in names.items()
        if any(name in row for log in logs for row in log)
    }
    if not present:
        return
    words = GROUPS[group]
    longest = max(len(log) for log in logs)
    window = longest // 20 if longest >= 100 else 1
    smooth = f" Bold lines are running means over {window} logged steps." if window > 1 else ""
    figure = over_steps(
        {
            series_title(series): [_curve(log, name) for log in logs]
            for series, name in present.items()
        },
        _steps_in_a_row(logs),
        styles=[style_of(series, position) for position, series in enumerate(present)],
        unit=words.unit,
        percent=words.share,
        window=window,
    )
    yield Panel(words.title, words.look_for + smooth, figure)


def _curve(log: list[dict[str, Any]], name: str) -> Curve:
    return [row.get(name) for row in log]


def _steps_in_a_row(logs: list[list[dict[str, Any]]]) -> list[list[int]]:
    done, rows = 0, []
    for log in logs:
        rows.append([done + int(row["step"]) for row in log])
        done = rows[-1][-1]
    return rows


def _ends(history: History, name: str, minus: str | None = None) -> dict[str, Estimate]:
    ends = {played.label: final_mean(played.steps, name, minus) for played in history.iterations}
    return {label: estimate for label, estimate in ends.items() if estimate is not None}
