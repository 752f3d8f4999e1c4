"""Which figures the comparison's page shows: one line a method, which looks alike in all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from tspin.compare.arms import MATCHED, Arm
from tspin.compare.method_lines import by_records, over_training
from tspin.compare.tables import MOMENT_WORDS
from tspin.records.estimate import Estimate
from tspin.records.training_log import GAPS
from tspin.report.figures import HEIGHT, Style, by_iteration, style_at
from tspin.report.panels import Panel
from tspin.report.wording import GROUPS, Wording, is_share, metric_title, rank, series_title
from tspin.runs.folder import BASE

__all__ = [
    "CLOSING_GAPS",
    "EFFICIENCY",
    "HELDOUT_GAPS",
    "TRAINING",
    "efficiency_panels",
    "evaluation_panels",
    "gap_panels",
    "training_panels",
]


TRAINING: Mapping[str, Wording] = MappingProxyType(
    {
        "logps/annotated": Wording(
            "Log-likelihood of y in training",
            "nats",
            "Look for lines that rise from iteration to iteration; a method whose line falls "
            "unlearns the annotations, however good its rewards look.",
        ),
        "logps/synthetic": Wording(
            "Log-likelihood of y\u2032 in training",
            "nats",
            "Look for a fall within each iteration, and a start of the next, with y\u2032 written "
            "anew, that does not sink with it.",
        ),
        "rewards/annotated": Wording(
            "Reward of y",
            "nats",
            "Look for lines that rise. Their heights do not compare: T-SPIN's reward is alpha "
            "times the log-likelihood, and SPIN's, relative to a reference, begins each iteration "
            "at 0.",
        ),
        "rewards/synthetic": Wording(
            "Reward of y\u2032",
            "nats",
            "Look for lines that fall below those of the reward of y. Again only the course of "
            "each line compares.",
        ),
        "rewards/accuracies": Wording(
            "Reward of y above that of y\u2032",
            "share of samples",
            "Look for lines that rise towards 100% within each iteration.",
            share=True,
        ),
        "rewards/higher_but_less_likely": Wording(
            "Higher reward, yet less likely",
            "share of samples",
            "Samples where y has the higher reward but the lower likelihood than y\u2032: look for "
            "lines at or near zero; what is above it is trained on but would not be generated.",
            share=True,
        ),
        "rewards/saturated": Wording(
            "Saturated: no gradient left",
            "share of samples",
            "Look for lines that stay away from 100%, where training stands still.",
            share=True,
        ),
    }
)
"""By name of a curve of compare.json."""

HELDOUT_GAPS: Mapping[str, str] = MappingProxyType(
    {
        "annotated_synthetic": "Look for lines that rise towards zero or above it: y catches up "
        "with what the policy itself writes, sampled anew after each iteration.",
        "synthetic_proto_synthetic": "Look for lines above zero that do not fall back: the policy "
        "prefers what it writes now to what the initial policy wrote.",
    }
)
"""By name of a gap, what to look for on the held-out prompts."""

CLOSING_GAPS: Mapping[str, str] = MappingProxyType(
    {
        "annotated_synthetic": "On the triplets trained on, the mean over the last tenth of the "
        "steps: look for lines above zero at every iteration.",
        "synthetic_proto_synthetic": "On the triplets trained on, the mean over the last tenth of "
        "the steps: look for lines above zero. Only methods with a history term show it, from "
        "iteration 1 on: the others do not compute y\u2080 in training.",
    }
)
"""By name of a gap, what to look for at the end of training."""

EFFICIENCY = "Look for a method that on few records is where others only come on many."


_ELSEWHERE = ("logps/", "margins/", "response_tokens/annotated")
"""Held-out metrics with a place of their own in the page, or alike for all methods."""


def evaluation_panels(result: dict[str, Any]) -> Iterator[Panel]:
    """The gate's metric, large, then every other one that was measured on the held-out records."""
    gate = result["config"]["gate"]["metric"]
    values = {
        name
        for arm in result["arms"]
        for metrics in arm["by_iteration"].values()
        for name in metrics
        if not name.startswith(_ELSEWHERE)
    }
    for name in sorted(values, key=lambda name: (name != gate, rank(name), name)):
        words = GROUPS.get(name.split("/")[0])
        look_for = words.look_for if words else ""
        if name == gate:
            look_for = f"This metric decides which iteration is the best. {look_for}"
        figure = _by_iteration(
            result, _heldout(result, name), name, height=HEIGHT + 60 * (name == gate)
        )
        yield Panel(metric_title(name), look_for, figure, wide=name == gate)


def training_panels(result: dict[str, Any]) -> Iterator[Panel]:
    """Likelihoods, rewards and shares over the training of all iterations in a row."""
    styles = _styles(result)
    for name, words in TRAINING.items():
        series = {
            arm["name"]: [training["curves"].get(name, []) for training in arm["training"]]
            for arm in result["arms"]
        }
        series = {arm: curves for arm, curves in series.items() if any(curves)}
        if series:
            figure = over_training(
                series,
                styles=[styles[arm] for arm in series],
                unit=words.unit,
                percent=words.share,
            )
            yield Panel(words.title, words.look_for, figure)


def gap_panels(result: dict[str, Any]) -> Iterator[Panel]:
    """logp(y) - logp(y') and logp(y') - logp(y0), held out and at the end of training."""
    for gap in GAPS:
        name = f"margins/{gap}"
        trained = {
            arm["name"]: {
                str(number): training["gaps"][gap]
                for number, training in enumerate(arm["training"])
                if gap in training["gaps"]
            }
            for arm in result["arms"]
        }
        places = (
            ("held out", _heldout(result, name), HELDOUT_GAPS),
            ("in training", trained, CLOSING_GAPS),
        )
        for place, series, words in places:
            if any(series.values()):
                figure = _by_iteration(result, series, name)
                figure.add_hline(0, line={"width": 2}, layer="below")
                yield Panel(f"{series_title(name)}, {place}", words[gap], figure)


def efficiency_panels(result: dict[str, Any]) -> Iterator[Panel]:
    """The gate's metric over the number of annotated records, where methods have several."""
    if len({arm["records"] for arm in result["arms"]}) < 2:
        return
    metric = result["config"]["gate"]["metric"]
    for dataset in result["arms"][0]["values"]:
        for moment, words in MOMENT_WORDS.items():
            figure = _by_records(result, metric, dataset, moment)
            if figure is not None:
                title = f"{metric_title(metric)}: {dataset}, {moment}"
                yield Panel(title, f"{words.capitalize()}. {EFFICIENCY}", figure)


def _heldout(result: dict[str, Any], metric: str) -> dict[str, dict[str, Any]]:
    """By method, the values on the held-out records: of the initial policy first, then in order."""
    return {
        arm["name"]: {
            label: metrics[metric]
            for label, metrics in sorted(arm["by_iteration"].items(), key=_number)
            if metric in metrics
        }
        for arm in result["arms"]
    }


def _number(item: tuple[str, Any]) -> int:
    return BASE if item[0] == "base" else int(item[0])


def _by_iteration(
    result: dict[str, Any],
    series: Mapping[str, Mapping[str, Any]],
    metric: str,
    *,
    height: int = HEIGHT,
) -> Any:
    words, styles = GROUPS.get(metric.split("/")[0]), _styles(result)
    shown = {
        arm: {label: Estimate(**values) for label, values in points.items()}
        for arm, points in series.items()
        if points
    }
    return by_iteration(
        shown,
        styles=[styles[arm] for arm in shown],
        unit=words.unit if words else "",
        percent=is_share(metric),
        height=height,
    )


def _by_records(result: dict[str, Any], metric: str, dataset: str, moment: str) -> Any:
    """None where the metric was not measured on the set."""
    lines: dict[str, list[tuple[int, Estimate]]] = {}
    styles: dict[str, Style] = {}
    initial: dict[float, list[str]] = {}
    for arm in sorted(result["arms"], key=lambda arm: arm["records"]):
        values = arm["values"][dataset]
        if metric not in values[moment]:
            continue
        line = _line(arm)
        lines.setdefault(line, []).append((arm["records"], Estimate(**values[moment][metric])))
        styles.setdefault(line, _styles(result)[arm["name"]])
        initial.setdefault(values["base"][metric]["value"], []).append(arm["name"])
    if not lines:
        return None
    # Methods with a model or an evaluation of their own begin elsewhere than the others.
    references = {
        "initial policy" + (f" of {', '.join(names)}" if len(initial) > 1 else ""): value
        for value, names in initial.items()
    }
    words = GROUPS.get(metric.split("/")[0])
    return by_records(
        lines,
        references,
        styles=list(styles.values()),
        unit=words.unit if words else "",
        percent=is_share(metric),
    )


def _line(arm: Mapping[str, Any]) -> str:
    """The method, whose shares are one line; what has a label is on its own."""
    parsed = Arm(arm["name"], arm["method"], arm["share"], arm["matched"])
    return parsed.name if parsed.labelled else MATCHED if parsed.matched else parsed.method


def _styles(result: dict[str, Any]) -> dict[str, Style]:
    return {arm["name"]: style_at(position) for position, arm in enumerate(result["arms"])}
