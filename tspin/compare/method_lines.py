"""Plotly figures with one line a method: over training, and over the amount of annotated data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from tspin.records.estimate import Estimate
from tspin.report.figures import HEIGHT, Curve, Style, lay_out, points, with_breaks

__all__ = ["by_records", "over_training"]

_MARKERS = 16
"""On one curve: lines are told apart by their symbols as well, which may not hide them."""

_APART = 0.025
"""Of the width between the fewest and the most records: how far two methods stand apart."""


def over_training(
    series: Mapping[str, Sequence[Curve]],
    *,
    styles: Sequence[Style],
    unit: str,
    percent: bool = False,
) -> go.Figure:
    """Curves over the iterations in a row, each iteration as wide as any other.

    Methods take unlike numbers of steps, so what lies across is the share of an iteration's
    training that is done: a value stands in the middle of the part of it that it is a mean over.

    Args:
        series: Name in the legend to one curve an iteration.
        styles: One a series.
        unit: Title of the vertical axis.
        percent: The values are shares.
    """
    figure = go.Figure()
    for (name, curves), style in zip(series.items(), styles, strict=True):
        places = [
            [number + (at + 0.5) / len(curve) for at in range(len(curve))]
            for number, curve in enumerate(curves)
        ]
        figure.add_scatter(
            x=with_breaks(places),
            y=with_breaks(curves),
            name=name,
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2},
            marker={"color": style.color, "symbol": style.symbol, "size": 7},
            marker_maxdisplayed=_MARKERS,
            hovertemplate="%{y:.1%}" if percent else "%{y:.4g}",
        )
    lay_out(figure, unit=unit, percent=percent, height=HEIGHT, legend=True)
    iterations = max(map(len, series.values()))
    figure.update_xaxes(
        title_text="iteration; across each, its training from start to end",
        range=[0, iterations],
        tickvals=[number + 0.5 for number in range(iterations)],
        ticktext=[str(number) for number in range(iterations)],
        hoverformat=".2f",
    )
    for border in range(1, iterations):
        figure.add_vline(border, line={"width": 1, "dash": "dot"})
    return figure


def by_records(
    series: Mapping[str, Sequence[tuple[int, Estimate]]],
    references: Mapping[str, float],
    *,
    styles: Sequence[Style],
    unit: str,
    percent: bool = False,
) -> go.Figure:
    """Estimates over the number of annotated records, on a logarithmic axis.

    Args:
        series: Name in the legend to pairs of a number of records and an estimate, in order.
        references: Name to a value that no number of records belongs to: a horizontal line.
        styles: One a series.
        unit: Title of the vertical axis.
        percent: The values are shares.
    """
    counts = sorted({count for pairs in series.values() for count, _ in pairs})
    step = (counts[-1] / counts[0]) ** _APART
    beside = {
        name: [
            (count * step ** (at - (len(series) - 1) / 2), estimate) for count, estimate in pairs
        ]
        for at, (name, pairs) in enumerate(series.items())
    }
    figure = points(beside, styles=styles, unit=unit, percent=percent)
    for trace, pairs in zip(figure.data, series.values(), strict=True):
        trace.text = [f"{count:,}" for count, _ in pairs]
        trace.hovertemplate = f"{trace.hovertemplate}<br>%{{text}} records"
    places = [place for pairs in beside.values() for place, _ in pairs]
    for name, value in references.items():
        figure.add_scatter(
            x=[min(places), max(places)],
            y=[value, value],
            name=name,
            mode="lines",
            line={"color": "#8b8f99", "dash": "dot", "width": 2},
            hovertemplate="%{y:.1%}" if percent else "%{y:.4g}",
        )
    figure.update_layout(showlegend=True, hovermode="closest")
    figure.update_xaxes(
        type="log",
        title_text="annotated records",
        tickvals=counts,
        ticktext=[f"{count:,}" for count in counts],
    )
    return figure
