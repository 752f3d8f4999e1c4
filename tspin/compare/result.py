"""What a comparison came to: values of every run, and differences that pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tspin.compare.arms import Arm
from tspin.compare.cost import Cost
from tspin.compare.pairing import ByRecord, fitted_nll, nll, paired_difference, rightness
from tspin.config import RunConfig
from tspin.estimate import Estimate
from tspin.intervals import mean
from tspin.run_folder import BASE, RunFolder

__all__ = ["HELDOUT", "MOMENTS", "ArmRun", "collect"]

HELDOUT = "heldout"
MOMENTS = ("base", "best", "last")
"""The initial policy, the best on the held-out records, and the last."""


@dataclass(frozen=True)
class ArmRun:
    """One method from one seed, finished."""

    arm: Arm
    seed: int
    config: RunConfig
    iterations: tuple[int, ...]
    best: int
    stopped: str | None
    heldout: dict[int, Path]
    """Iteration (`BASE` too) to metrics on the held-out records."""
    measured: dict[str, dict[int, Path]] = field(default_factory=dict)
    """The same on further sets, by name."""
    sets: Mapping[str, Path] = field(default_factory=dict)
    """The records of each set, the held-out ones too."""
    cost: Cost = field(default_factory=Cost)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by step."""

    @classmethod
    def read(cls, arm: Arm, seed: int, config: RunConfig, folder: RunFolder) -> ArmRun:
        """What `tspin.selfplay.run` has left."""
        best = json.loads(folder.best.read_bytes())
        done = [number for number in range(config.iterations) if _made(folder, number)]
        metrics = {number: folder.iteration(number).metrics for number in [BASE, *done]}
        return cls(arm, seed, config, tuple(done), best["iteration"], best["stopped"], metrics)

    def completed(
        self,
        cost: Cost,
        seconds: Mapping[str, float],
        measured: dict[str, dict[int, Path]],
        sets: Mapping[str, Path],
    ) -> ArmRun:
        """The same with what was found out about it later."""
        return replace(self, cost=cost, seconds=seconds, measured=measured, sets=sets)

    def records(self, dataset: str) -> Path:
        """What was measured on."""
        return self.sets[dataset]

    @property
    def last(self) -> int:
        """The last iteration."""
        return self.iterations[-1]

    def metrics_at(self, dataset: str, moment: str) -> Path:
        """metrics.json of one of `MOMENTS` on the held-out or on a further set."""
        number = {"base": BASE, "best": self.best, "last": self.last}[moment]
        return (self.heldout if dataset == HELDOUT else self.measured[dataset])[number]


def collect(
    arms: Sequence[Arm], runs: Sequence[ArmRun], against: str, config: RunConfig
) -> dict[str, Any]:
    """compare.json: see docs/compare.md for its fields."""
    by_arm = {arm.name: [each for each in runs if each.arm.name == arm.name] for arm in arms}
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
                "values": {
                    dataset: {
                        moment: _over_seeds(by_arm[arm.name], dataset, moment, confidence)
                        for moment in MOMENTS
                    }
                    for dataset in datasets
                },
                "by_iteration": _by_iteration(by_arm[arm.name], confidence),
                "runs": [_run_as_json(each) for each in by_arm[arm.name]],
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


def _made(folder: RunFolder, number: int) -> bool:
    made = folder.iteration(number)
    return made.model.is_dir() and made.metrics.is_file()


def _run_as_json(each: ArmRun) -> dict[str, Any]:
    return {
        "seed": each.seed,
        "iterations": len(each.iterations),
        "epochs": each.config.train.epochs,
        "best": each.best,
        "stopped": each.stopped,
        "cost": {**asdict(each.cost), "seconds": dict(each.seconds)},
    }


def _metrics(path: Path) -> dict[str, Estimate]:
    found: Mapping[str, Any] = json.loads(path.read_bytes())["metrics"]
    return {name: Estimate(**values) for name, values in found.items()}


def _over_seeds(
    runs: Sequence[ArmRun], dataset: str, moment: str, confidence: float
) -> dict[str, Any]:
    """One seed: the evaluation's own estimates. Several: means over the seeds."""
    return _pooled([_metrics(each.metrics_at(dataset, moment)) for each in runs], confidence)


def _by_iteration(runs: Sequence[ArmRun], confidence: float) -> dict[str, dict[str, Any]]:
    numbers = sorted({number for each in runs for number in each.heldout})
    return {
        "base" if number == BASE else str(number): _pooled(
            [_metrics(each.heldout[number]) for each in runs if number in each.heldout], confidence
        )
        for number in numbers
    }


def _pooled(found: Sequence[Mapping[str, Estimate]], confidence: float) -> dict[str, Any]:
    if len(found) == 1:
        return {name: estimate.as_json() for name, estimate in found[0].items()}
    names = [name for name in found[0] if all(name in each for each in found)]
    return {
        name: mean([each[name].value for each in found], confidence=confidence).as_json()
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
        found = [(_metrics(a), _metrics(b)) for a, b in paths]
        for name in found[0][0]:
            if all(name in a and name in b for a, b in found):
                values = [a[name].value - b[name].value for a, b in found]
                difference = mean(values, confidence=confidence).as_json()
                rows.append({**where, "metric": name, "over": "seeds", **difference})
    for name in _metrics(paths[0][0]):
        found_by = _by_record(name, runs[0].records(dataset))
        if found_by is not None and all(name in _metrics(b) for _, b in paths):
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
