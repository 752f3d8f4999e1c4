"""A run in sentences, facts and tables: the report's beginning and its measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tspin.report.wording import GUARDS, metric_title, shown
from tspin.runs.drops import sampled_drops
from tspin.runs.folder import BASE
from tspin.runs.history import History

__all__ = [
    "Table",
    "facts",
    "headline_metrics",
    "measurements",
    "metric_names",
    "state",
    "verdict",
    "warnings",
]

_HEADLINES = (
    "nll_per_token",
    "temperature/fitted",
    "exact_match/",
    "lm_eval/paper/average",
    "accuracies/annotated_synthetic",
    "truncated/greedy",
)


@dataclass(frozen=True)
class IterationRow:
    """One iteration of a table; each cell is a value and its interval, either may be empty."""

    label: str
    best: bool
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Metrics by iteration."""

    titles: list[str]
    rows: list[IterationRow]


def verdict(history: History) -> str:
    """Which model is the best and by how much, in one sentence."""
    best = history.best
    if best is None:
        return "No iteration is finished yet, so none can be called the best."
    number, metric = best["iteration"], best["metric"]
    if best["value"] is None:
        return f"Iteration {number} is the latest; without held-out records none can be the best."
    values = {
        played.number: _with_interval(*shown(metric, played.metrics[metric]))
        for played in history.played
        if metric in played.metrics
    }
    value, title = values.get(number, f"{best['value']:.4g}"), metric_title(metric)
    if number == BASE:
        return f"No iteration beat the model that the run began with. {title}: {value}."
    way = "up" if history.config.gate.direction == "max" else "down"
    before = f", {way} from {values[BASE]}" if BASE in values else ""
    return f"Iteration {number} is the best. {title}: {value}{before}."


def state(history: History) -> str:
    """How far the run came, and why it stopped."""
    planned, done = history.config.iterations, history.finished
    if history.best and history.best["stopped"]:
        begun = f" {_sentence(str(history.in_vain))}" if history.in_vain else ""
        return f"Stopped early: {history.best['stopped']}.{begun}"
    if done >= planned:
        return f"All {planned} iterations ran." if planned > 1 else "Its one iteration ran."
    return f"Not finished: {done} of {planned} iterations are done."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def facts(history: History) -> list[tuple[str, str]]:
    """Name and value of what a reader asks first."""
    config = history.config
    triplets = history.manifests.get("iter-0/triplets.jsonl")
    kept = triplets.counts.get("triplets") if triplets else None
    # Not the largest n of a metric: a task of lm-eval asks questions of its own.
    heldout = max((played.records for played in history.played), default=0)
    best = history.best["iteration"] if history.best else None
    told = {
        "Model it began with": config.model.path,
        "Best model": None if best is None else (history.best or {})["model"] or config.model.path,
        "Iterations": f"{history.finished} of {config.iterations}",
        "Training triplets": f"{kept:,}" if kept else None,
        "Held-out records": f"{heldout:,}" if heldout else None,
        "Tasks": _tasks(history),
        "Seed": str(config.seed),
    }
    return [(name, value) for name, value in told.items() if value]


def _tasks(history: History) -> str | None:
    """Version of the harness, and of each task that has a metric its shots and version."""
    latest = next((played for played in reversed(history.played) if played.lm_eval), None)
    if latest is None:
        return None
    measured = dict.fromkeys(
        name.split("/")[1] for name in latest.metrics if name.startswith("lm_eval/")
    )
    known = {name: latest.lm_eval["tasks"].get(name) for name in measured}
    told = [
        f"{name} ({task['num_fewshot']}-shot, version {task['version'] or 'unknown'})"
        for name, task in known.items()
        if task
    ]
    return f"lm-eval {latest.lm_eval['version']}: {', '.join(told)}"


def warnings(history: History) -> list[str]:
    """What the guards found past their thresholds, in training and held out, by iteration."""
    told = []
    limits = history.config.train.guards
    for played in history.iterations:
        manifest = history.manifests.get(f"iter-{played.number}/model")
        for kind, words in GUARDS.items():
            count = manifest.counts.get(f"past_{kind}", 0) if manifest else 0
            if count:
                sentence = words.format(count=count, threshold=getattr(limits, kind))
                told.append(f"Iteration {played.number}: {sentence}")
        until = [earlier.metrics for earlier in history.played if earlier.number <= played.number]
        drops = sampled_drops(until, limits.sampled_drop)
        told += [f"Iteration {played.number}: {sentence}." for sentence in drops]
    return told


def metric_names(history: History) -> list[str]:
    """Every held-out metric of the run, sorted."""
    return sorted({name for played in history.played for name in played.metrics})


def headline_metrics(history: History) -> list[str]:
    """The few metrics of the first table, the gate's first."""
    names, gate = metric_names(history), history.config.gate.metric
    chosen = [name for start in _HEADLINES for name in names if name.startswith(start)]
    return list(dict.fromkeys([gate, *chosen] if gate in names else chosen))


def measurements(history: History, names: Sequence[str]) -> Table:
    """Values and intervals of these metrics, one row for the base and for each iteration."""
    best = history.best["iteration"] if history.best else None
    rows = [
        IterationRow(
            played.label,
            played.number == best,
            [
                shown(name, played.metrics[name]) if name in played.metrics else ("", "")
                for name in names
            ],
        )
        for played in history.played
    ]
    return Table([metric_title(name) for name in names], rows)


def _with_interval(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value
