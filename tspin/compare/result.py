"""What a comparison came to: values of every run, and differences that pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tspin.compare.arms import HELDOUT, MOMENTS, Arm, ArmRun
from tspin.compare.dynamics import dynamics
from tspin.compare.pairing import ByRecord, fitted_nll, nll, paired_difference, rightness
from tspin.config import RunConfig
from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate, read_estimates
from tspin.records.records import AnnotatedRecord, read_records
from tspin.runs.folder import BASE

__all__ = ["collect"]


def collect(
    arms: Sequence[Arm], runs: Sequence[ArmRun], against: str, config: RunConfig
) -> dict[str, Any]:
    """compare.json: see docs/guides/compare.md for its fields.

    Args:
        arms: In the order of the page.
        runs: All that were made.
        against: Name of the arm that the others are compared with.
        config: Says confidence and the gate's metric.
    """
    by_arm = {arm.name: [run for run in runs if run.arm.name == arm.name] for arm in arms}
    datasets = [HELDOUT, *runs[0].measured]
    confidence = config.evaluate.confidence
    return {
        "against": against,
        "arms": [
            {
                "name": arm.name,
                "method": arm.method,
                "share": arm.share,
                "matched": arm.matched,
                "records": _records(by_arm[arm.name]),
                "values": {
                    dataset: {
                        moment: _over_seeds(by_arm[arm.name], dataset, moment, confidence)
                        for moment in MOMENTS
                    }
                    for dataset in datasets
                },
                "by_iteration": _by_iteration(by_arm[arm.name], confidence),
                "training": dynamics([run.logs() for run in by_arm[arm.name]], confidence),
                "runs": [_run_as_json(run) for run in by_arm[arm.name]],
            }
            for arm in arms
        ],
        "paired": [
            row
            for arm in arms
            if arm.name != against
            for dataset in datasets
            for moment in ("best", "last")
            for row in _paired(by_arm[arm.name], by_arm[against], dataset, moment, confidence)
        ],
    }


def _records(runs: Sequence[ArmRun]) -> int:
    """How many annotated records a method was given; the same from every seed."""
    return sum(1 for _ in read_records(Path(runs[0].config.data.annotated), AnnotatedRecord))


def _run_as_json(run: ArmRun) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "iterations": len(run.iterations),
        "epochs": run.config.train.epochs,
        "best": run.best,
        "stopped": run.stopped,
        "cost": {**asdict(run.cost), "seconds": dict(run.seconds)},
    }


def _over_seeds(
    runs: Sequence[ArmRun], dataset: str, moment: str, confidence: float
) -> dict[str, Any]:
    """One seed: the evaluation's own estimates. Several: means over the seeds."""
    return _pooled([read_estimates(run.metrics_at(dataset, moment)) for run in runs], confidence)


def _by_iteration(runs: Sequence[ArmRun], confidence: float) -> dict[str, dict[str, Any]]:
    numbers = sorted({number for run in runs for number in run.heldout})
    return {
        "base" if number == BASE else str(number): _pooled(
            [read_estimates(run.heldout[number]) for run in runs if number in run.heldout],
            confidence,
        )
        for number in numbers
    }


def _pooled(evaluations: Sequence[Mapping[str, Estimate]], confidence: float) -> dict[str, Any]:
    if len(evaluations) == 1:
        return {name: estimate.as_json() for name, estimate in evaluations[0].items()}
    names = [
        name for name in evaluations[0] if all(name in evaluation for evaluation in evaluations)
    ]
    return {
        name: mean(
            [evaluation[name].value for evaluation in evaluations], confidence=confidence
        ).as_json()
        for name in names
    }


def _paired(
    runs: Sequence[ArmRun], against: Sequence[ArmRun], dataset: str, moment: str, confidence: float
) -> list[dict[str, Any]]:
    rows = []
    pairs = list(zip(runs, against, strict=True))
    paths = [(a.metrics_at(dataset, moment), b.metrics_at(dataset, moment)) for a, b in pairs]
    where = {"arm": runs[0].arm.name, "dataset": dataset, "moment": moment}
    if len(pairs) > 1:
        estimates = [(read_estimates(a), read_estimates(b)) for a, b in paths]
        for name in estimates[0][0]:
            if all(name in a and name in b for a, b in estimates):
                values = [a[name].value - b[name].value for a, b in estimates]
                difference = mean(values, confidence=confidence).as_json()
                rows.append({**where, "metric": name, "over": "seeds", **difference})
    for name in read_estimates(paths[0][0]):
        found_by = _by_record(name, runs[0].records(dataset))
        if found_by is not None and all(name in read_estimates(b) for _, b in paths):
            by_record = [(found_by(a), found_by(b)) for a, b in paths]
            difference = paired_difference(by_record, confidence=confidence).as_json()
            rows.append({**where, "metric": name, "over": "records", **difference})
    return rows


def _by_record(metric: str, records: Path) -> Callable[[Path], ByRecord] | None:
    """How a metric is read record by record; None where it is not kept so."""
    likelihoods = {"nll_per_token": nll, "nll_per_token/fitted": fitted_nll}
    if metric in likelihoods:
        return likelihoods[metric]
    kind, _, rest = metric.partition("/")
    if kind != "exact_match":
        return None
    extractor, _, mode = rest.rpartition("/")
    return lambda path: rightness(path, records, extractor, mode)
