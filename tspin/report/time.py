"""Where the time of a run went: one bar an iteration."""

from __future__ import annotations

from collections.abc import Iterator

from tspin.records.seconds import Phase
from tspin.report.figures import stacked_bars, style_at
from tspin.report.panels import Panel
from tspin.runs.history import History, Played

__all__ = ["time_panels"]

_PARTS: dict[str, tuple[Phase, ...]] = {
    "generating": ("generating",),
    "training": ("training",),
    "evaluating": ("evaluating",),
    "loading of model and engine": ("loading",),
    "tokenising": ("tokenising",),
    "checkpoints and saving": ("checkpointing", "saving"),
    "waiting for other processes": ("waiting",),
    "starts and checks": ("imports", "checks"),
}
_UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def time_panels(history: History) -> Iterator[Panel]:
    """The steps of each iteration by what their time went to; none where nothing was timed."""
    timed = [played for played in history.played if played.seconds]
    if not timed:
        return
    longest = max(sum(step.total for step in played.seconds) for played in timed)
    unit, size = next(
        ((unit, size) for unit, size in _UNITS if longest >= 2 * size), ("seconds", 1.0)
    )
    parts = {
        name: [sum(_spent(played, phase) for phase in phases) / size for played in timed]
        for name, phases in _PARTS.items()
    }
    # A colour belongs to a part, whether or not the others are there.
    colors = {name: style_at(position).color for position, name in enumerate(parts)}
    parts = {name: values for name, values in parts.items() if sum(values) * size > 0.05}
    figure = stacked_bars(
        parts,
        [played.label for played in timed],
        colors=[colors[name] for name in parts],
        unit=unit,
    )
    yield Panel("Time by iteration", _words(history), figure, wide=True)


def _spent(played: Played, phase: Phase) -> float:
    return sum(step.phases.get(phase, 0.0) for step in played.seconds)


def _words(history: History) -> str:
    starts = sum(step.starts - 1 for played in history.played for step in played.seconds)
    again = f" {starts} of them had to be started again, which counts as well." if starts else ""
    untimed = [
        f"{name} of {played.label}"
        for played in history.played
        for name in _expected(history, played) - {step.step for step in played.seconds}
    ]
    missing = f" Nobody timed: {', '.join(sorted(untimed))}." if untimed else ""
    return (
        "What the steps of each iteration took, over all their starts. Look for bars that are "
        "mostly generating, training and evaluating. An evaluation beside the next iteration "
        f"belongs to the bar of its policy.{again}{missing}"
    )


def _expected(history: History, played: Played) -> set[str]:
    """The steps that this iteration has taken."""
    steps = {"evaluate"} if played.metrics else set()
    if played.steps:
        steps |= {"train"} if history.config.train.method == "sft" else {"train", "generate"}
    return steps
