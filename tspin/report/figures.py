"""Plotly figures of a run: values by iteration, and curves over optimiser steps.

Colours of text, grid and paper are left to the page's style sheet, which knows dark and light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from tspin.records.estimate import Estimate

__all__ = [
    "HEIGHT",
    "Curve",
    "Style",
    "by_iteration",
    "lay_out",
    "over_steps",
    "points",
    "running_mean",
    "stacked_bars",
    "style_at",
    "style_of",
    "with_breaks",
]


@dataclass(frozen=True)
class Style:
    """Of one line and its points."""

    color: str
    dash: str
    symbol: str


# Mid-tones that keep a contrast of 3 to 1 on white and on near-black, apart for the colour-blind.
_ROLES = {
    "annotated": Style("#3987e5", "solid", "circle"),
    "synthetic": Style("#d97030", "dash", "diamond"),
    "proto_synthetic": Style("#8b8f99", "dot", "square"),
}
_OTHERS = (_ROLES["annotated"], _ROLES["synthetic"], Style("#2f9e78", "dot", "square"))
_COLORS = (
    "#3987e5",
    "#d97030",
    "#2f9e78",
    "#b05fc7",
    "#8b8f99",
    "#c2548a",
    "#9a7d1e",
    "#5b7f95",
)
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star", "triangle-down", "cross")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def style_of(role: str, position: int) -> Style:
    """y, y' and y0 look the same in every figure; other series by their position."""
    return _ROLES.get(role, _OTHERS[position % len(_OTHERS)])


def style_at(position: int) -> Style:
    """One of up to 40 series, no two of which have both dashes and symbol in common."""
    lap, at = divmod(position, len(_COLORS))
    return Style(_COLORS[at], _DASHES[(at + lap) % len(_DASHES)], _SYMBOLS[at])


Curve = Sequence[float | None]

HEIGHT = 300
"""Pixels; the width follows the page."""

_SMALL = {"font": {"size": 12}, "standoff": 6}


def points(
    series: Mapping[str, Sequence[tuple[Any, Estimate]]],
    *,
    styles: Sequence[Style],
    unit: str,
    percent: bool = False,
    height: int = HEIGHT,
) -> go.Figure:
    """Points with their intervals, one line a series; what lies across is left to the caller.

    Args:
        series: Name in the legend to pairs of a place on the horizontal axis and an estimate.
        styles: One a series.
        unit: Title of the vertical axis.
        percent: The values are shares.
        height: In pixels.
    """
    figure = go.Figure()
    for (name, pairs), style in zip(series.items(), styles, strict=True):
        estimates = [estimate for _, estimate in pairs]
        figure.add_scatter(
            x=[place for place, _ in pairs],
            y=[measured.value for measured in estimates],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [_reach(measured.high, measured.value) for measured in estimates],
                "arrayminus": [_reach(measured.value, measured.low) for measured in estimates],
                "thickness": 1.5,
                "width": 5,
            },
            name=name,
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2},
            marker={"color": style.color, "symbol": style.symbol, "size": 8},
            customdata=[[_number(measured, percent=percent), measured.n] for measured in estimates],
            hovertemplate="%{customdata[0]}, n = %{customdata[1]}",
        )
    lay_out(figure, unit=unit, percent=percent, height=height, legend=len(series) > 1)
    return figure


def by_iteration(
    series: Mapping[str, Mapping[str, Estimate]],
    *,
    styles: Sequence[Style],
    unit: str,
    percent: bool = False,
    height: int = HEIGHT,
) -> go.Figure:
    """`points` over the iterations; each series is (label of the iteration to estimate).

    Args:
        series: By name of a line, its estimates by label of the iteration.
        styles: By name, how the line looks.
        unit: On the y axis.
        percent: Whether values are shares, to be shown in per cent.
        height: In pixels.
    """
    pairs = {name: list(estimates.items()) for name, estimates in series.items()}
    figure = points(pairs, styles=styles, unit=unit, percent=percent, height=height)
    labels = list(dict.fromkeys(label for estimates in series.values() for label in estimates))
    figure.update_xaxes(
        type="category", categoryorder="array", categoryarray=labels, title_text="iteration"
    )
    return figure


def over_steps(
    series: Mapping[str, Sequence[Curve]],
    steps: Sequence[Sequence[int]],
    *,
    styles: Sequence[Style],
    unit: str,
    percent: bool = False,
    window: int = 1,
) -> go.Figure:
    """Curves over the optimiser steps of all iterations in a row, broken between iterations.

    Args:
        series: Name in the legend to one curve an iteration.
        steps: The steps of each iteration, counted over the run.
        styles: One a series.
        unit: Title of the vertical axis.
        percent: The values are shares.
        window: Above 1, the curves are running means of this many values over faint raw ones.
    """
    figure = go.Figure()
    x = with_breaks(steps)
    for (name, curves), style in zip(series.items(), styles, strict=True):
        line = {"color": style.color, "width": 2}
        if window > 1:
            figure.add_scatter(
                x=x,
                y=with_breaks(curves),
                mode="lines",
                line={**line, "width": 1},
                opacity=0.25,
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=x,
            # A window of 1 leaves the values as they are.
            y=with_breaks([running_mean(curve, window) for curve in curves]),
            name=name,
            # A single step is a point: a line would not show it.
            mode="lines" if max(map(len, steps)) > 1 else "markers",
            line={**line, "dash": style.dash},
            marker={"color": style.color, "symbol": style.symbol, "size": 8},
            hovertemplate="%{y}",
        )
    lay_out(figure, unit=unit, percent=percent, height=HEIGHT, legend=len(series) > 1)
    figure.update_xaxes(title_text="optimiser step, all iterations in a row", rangemode="tozero")
    for before, after in pairwise(steps):
        figure.add_vline((before[-1] + after[0]) / 2, line={"width": 1, "dash": "dot"})
    return figure


def stacked_bars(
    parts: Mapping[str, Sequence[float]], labels: Sequence[str], *, colors: Sequence[str], unit: str
) -> go.Figure:
    """One bar an iteration, of parts that add up.

    Args:
        parts: Name in the legend to one value a bar.
        labels: Of the bars.
        colors: One a part.
        unit: Title of the vertical axis.
    """
    figure = go.Figure()
    for (name, values), color in zip(parts.items(), colors, strict=True):
        figure.add_bar(
            x=list(labels),
            y=list(values),
            name=name,
            marker={"color": color},
            hovertemplate="%{y:.3~g}",
        )
    lay_out(figure, unit=unit, percent=False, height=HEIGHT, legend=True)
    figure.update_layout(barmode="stack", bargap=0.4)
    figure.update_xaxes(type="category", title_text="iteration")
    return figure


def running_mean(curve: Curve, window: int) -> list[float | None]:
    """Means over the last `window` values that are numbers, fewer at the start."""
    means: list[float | None] = []
    for end in range(1, len(curve) + 1):
        known = [value for value in curve[max(0, end - window) : end] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    return means


def with_breaks(curves: Sequence[Curve]) -> list[float | None]:
    """Curves in a row, a gap after each."""
    return [value for curve in curves for value in (*curve, None)]


def _reach(upper: float | None, lower: float | None) -> float:
    return 0.0 if upper is None or lower is None else upper - lower


def _number(estimate: Estimate, *, percent: bool) -> str:
    style = ".1%" if percent else ".4g"
    if estimate.low is None or estimate.high is None:
        return format(estimate.value, style)
    return f"{estimate.value:{style}} ({estimate.low:{style}} to {estimate.high:{style}})"


def lay_out(figure: go.Figure, *, unit: str, percent: bool, height: int, legend: bool) -> None:
    """What all figures have in common; what a long legend takes is added to the height.

    Args:
        figure: Changed in place.
        unit: On the y axis.
        percent: Whether values are shares, to be shown in per cent.
        height: In pixels.
        legend: Whether lines are named above the figure.
    """
    rows = -(-sum(trace.showlegend is not False for trace in figure.data) // 2)
    height += 20 * max(0, rows - 1) if legend else 0
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 12, "t": 34 if legend else 12, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hovermode="x unified",
        dragmode=False,
    )
    figure.update_xaxes(showgrid=False, zeroline=False, fixedrange=True, title=_SMALL)
    figure.update_yaxes(
        title={"text": unit, **_SMALL},
        tickformat=".0%" if percent else None,
        range=[-0.03, 1.03] if percent else None,
        zeroline=False,
        fixedrange=True,
    )
