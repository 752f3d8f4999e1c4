"""Regimes that lay above SFT in the search, once more: new seeds, test records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.reproduction.judging import CONFIDENCE, Row
from benchmarks.reproduction.protocol import UNTRAINED, Cell
from benchmarks.reproduction.regimes import CONFIRMING_SEEDS, Regime
from benchmarks.reproduction.rows import finished_runs, on_test
from benchmarks.reproduction.search import play_regimes
from benchmarks.reproduction.searches import CONFIRMED, KNOWN
from benchmarks.reproduction.study import Study
from benchmarks.reproduction.tradeoff import reached
from tspin.compare.folders import ComparisonFolder
from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate
from tspin.runs.folder import BASE

__all__ = ["above", "collect_confirmed", "confirm"]


def confirm(study: Study, cell: Cell) -> None:
    """The regimes of `CONFIRMED` beside SFT at every learning rate of the search."""
    if cell.base in study.protocol.confirmed and cell.skill in CONFIRMED:
        options = ["--seeds", ",".join(map(str, CONFIRMING_SEEDS))]
        options += ["--measure", f"test={study.records(cell.skill, 'test')}"]
        play_regimes(study, cell, study.confirmed(cell), _regimes(cell), options, split="test")


def _regimes(cell: Cell) -> Mapping[str, Regime]:
    everything = KNOWN.regimes()["base"]
    return {
        name: regime
        for name, regime in everything.items()
        if name in CONFIRMED[cell.skill] or (regime.control and name != UNTRAINED)
    }


def collect_confirmed(study: Study, cell: Cell) -> Iterator[dict[str, Any]]:
    """One row an arm and seed; on test, at the best and at the last iteration, and of the base."""
    folder = ComparisonFolder(study.confirmed(cell))
    for arm, run in finished_runs(folder):
        numbers = {"base": BASE, "best": run["best"], "last": run["iterations"] - 1}
        yield {
            "skill": cell.skill,
            "base": cell.base,
            "arm": arm.name,
            "control": arm.name not in CONFIRMED[cell.skill],
            "seed": run["seed"],
            "test": {
                moment: on_test(study, folder, cell, arm, run["seed"], number)
                for moment, number in numbers.items()
            },
        }


def above(rows: Sequence[Row], arm: str, moment: str, axis: str) -> Estimate:
    """How far a regime lies above what SFT reaches at its retention; pairs in base and seed.

    Args:
        rows: Of `collect_confirmed`, all of one skill.
        arm: The regime.
        moment: 'best' or 'last'.
        axis: Which exactness, 'annotated/greedy' or 'annotated/sampled'.
    """
    gains = []
    for row in [each for each in rows if each["arm"] == arm]:
        unit = [each for each in rows if (each["base"], each["seed"]) == (row["base"], row["seed"])]
        policies = [each["test"][moment] for each in unit if each["control"]]
        policies.append(row["test"]["base"])
        pairs = [(each["retained/greedy"], each[axis]) for each in policies]
        mine = row["test"][moment]
        gains.append(mine[axis] - reached(pairs, mine["retained/greedy"]))
    return mean(gains, confidence=CONFIDENCE)
