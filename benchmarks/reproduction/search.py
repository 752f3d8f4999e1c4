"""The search for regimes in which self-play wins, on validation alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.reproduction.protocol import Cell
from benchmarks.reproduction.regimes import FROM_BASE, SEARCH_SEEDS, START, STARTS, Regime
from benchmarks.reproduction.rows import kept_skills, validation_values
from benchmarks.reproduction.study import Study
from tspin.compare.arms import Arm
from tspin.compare.folders import ComparisonFolder
from tspin.run_folder import RunFolder

__all__ = ["collect_search", "search"]


def search(study: Study, cell: Cell) -> None:
    """Every regime from every seed of the search: from the base, then from policies of SFT."""
    seeds = ",".join(map(str, SEARCH_SEEDS))
    options = ["--seeds", seeds, "--set-for", f"{START}:train.learning_rate={_rate(study, cell)}"]
    _play(study, cell, study.search(cell), FROM_BASE, options, [START])
    for start, (arm, regimes) in STARTS.items():
        for seed in SEARCH_SEEDS:
            options = ["--seeds", str(seed)]
            if arm is not None:
                started = RunFolder(study.search(cell) / f"seed-{seed}" / arm)
                policy = started.iteration(study.protocol.iterations - 1).model
                options += ["--set", f"model.path={policy}"]
            _play(study, cell, study.search(cell, f"{start}-{seed}"), regimes, options)


def collect_search(study: Study, cell: Cell) -> list[dict[str, Any]]:
    """One row an arm and seed: exactness on validation, what is kept, of best and last.

    The runs that chose learning rates are here, too: each method at each rate.
    """
    folders = {
        f"rate-{rate:g}": study.selected(cell, rate) for rate in study.protocol.learning_rates
    }
    folders |= {"search": study.search(cell)}
    parts = [f"{start}-{seed}" for start in STARTS for seed in SEARCH_SEEDS]
    folders |= {part: study.search(cell, part) for part in parts}
    return [
        {"skill": cell.skill, "base": cell.base, "part": part, **row}
        for part, path in folders.items()
        if (path / "compare.json").is_file()
        for row in _rows(study, cell, ComparisonFolder(path))
        if cell.base == study.protocol.sensitive_base
    ]


def _play(
    study: Study,
    cell: Cell,
    out: Path,
    regimes: Mapping[str, Regime],
    options: list[str],
    others: list[str] | None = None,
) -> None:
    rates = study.select(cell)
    given = [*options, *study.measure_kept(cell, "validation")]
    for label, regime in regimes.items():
        given += regime.options(label, rates[regime.like])
    arms = [f"{label}={regime.arm}" for label, regime in regimes.items()]
    study.play(cell, [*arms, *(others or [])], out, given)


def _rate(study: Study, cell: Cell) -> float:
    return study.select(cell)[START]


def _rows(study: Study, cell: Cell, folder: ComparisonFolder) -> Iterator[dict[str, Any]]:
    for made in json.loads(folder.result.read_bytes())["arms"]:
        arm = Arm(made["name"], made["method"], made["share"], made["matched"])
        for run in made["runs"]:
            yield {
                "arm": arm.name,
                "seed": run["seed"],
                "flops": run["cost"]["flops"],
                "best": _values(study, cell, folder, arm, run["seed"], run["best"]),
                "last": _values(study, cell, folder, arm, run["seed"], run["iterations"] - 1),
            }


def _values(
    study: Study, cell: Cell, folder: ComparisonFolder, arm: Arm, seed: int, number: int
) -> dict[str, float]:
    others = {skill: folder.measured(arm, seed, skill, number) for skill in cell.others}
    values = validation_values(folder.run(arm, seed).iteration(number).metrics)
    return values | kept_skills(study, others, "validation")
