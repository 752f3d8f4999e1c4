"""The study's numbers, one row a run: what every table and verdict is made from."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.reproduction.protocol import SETTINGS, Cell
from benchmarks.reproduction.scoring import score
from benchmarks.reproduction.study import Study
from tspin.compare.arms import Arm
from tspin.compare.folders import ComparisonFolder
from tspin.run_folder import BASE, RunFolder
from tspin.train_log import read_train_log

__all__ = ["collect_rows", "collect_settings"]

_TRAINING = (
    "rewards/higher_but_less_likely",
    "rewards/saturated",
    "lengths/annotated",
    "lengths/synthetic",
    "logps/annotated",
    "logps/synthetic",
    "logps/proto_synthetic",
)


def collect_rows(study: Study, cell: Cell) -> list[dict[str, Any]]:
    """One row a method and seed of a cell whose final comparison is finished."""
    folder = ComparisonFolder(study.final(cell))
    result = json.loads(folder.result.read_bytes())
    rows = []
    for arm in result["arms"]:
        for run in arm["runs"]:
            moments = {"base": BASE, "best": run["best"], "last": run["iterations"] - 1}
            parsed = Arm.parse(arm["name"])
            rows.append(
                {
                    "skill": cell.skill,
                    "base": cell.base,
                    "arm": arm["name"],
                    "seed": run["seed"],
                    "best_iteration": run["best"],
                    "learning_rate": study.select(cell)[arm["name"]],
                    "epochs": run["epochs"],
                    "cost": run["cost"],
                    "test": {
                        moment: _test(study, folder, cell, parsed, run["seed"], number)
                        for moment, number in moments.items()
                    },
                    "iterations": [
                        _iteration(folder.run(parsed, run["seed"]), number, cell)
                        for number in range(run["iterations"])
                    ],
                }
            )
    return rows


def collect_settings(study: Study, cell: Cell) -> list[dict[str, Any]]:
    """Exactness on validation after the last iteration with other alphas and betas."""
    rows = []
    for setting in SETTINGS:
        for seed in study.protocol.seeds:
            folder = RunFolder(study.sensitive(cell, setting, seed))
            last = _iteration(folder, study.protocol.iterations - 1, cell)
            where = {"skill": cell.skill, "base": cell.base, "setting": setting, "seed": seed}
            rows.append({**where, "greedy": last["greedy"]})
    return rows


def _test(
    study: Study, folder: ComparisonFolder, cell: Cell, arm: Arm, seed: int, number: int
) -> dict[str, float]:
    """Of the skill that was taught; `retained/*` are means over the others."""
    path = folder.measured(arm, seed, "test", number)
    count, skip = study.protocol.test, study.protocol.skipped_tests
    found = score(path, cell.skill, count, skip)
    found["nll_per_token"] = _values(path)["nll_per_token"]
    others = [(skill, folder.measured(arm, seed, skill, number)) for skill in cell.others]
    scores = [score(other, skill, count, skip) for skill, other in others]
    for mode in ("greedy", "sampled"):
        found[f"retained/{mode}"] = fmean(each[f"right/{mode}"] for each in scores)
    found["retained/nll_per_token"] = fmean(_values(each)["nll_per_token"] for _, each in others)
    return found


def _iteration(folder: RunFolder, number: int, cell: Cell) -> dict[str, float]:
    """On validation, and at the end of training: means over the last tenth of its steps."""
    made = folder.iteration(number)
    metrics = _values(made.metrics)
    found = {
        mode: next(
            value
            for name, value in metrics.items()
            if name.startswith("exact_match/") and name.endswith(f"/{mode}")
        )
        for mode in ("greedy", "sampled")
    }
    kept = ("nll_per_token", "margins/", "accuracies/", "response_tokens/")
    found |= {name: value for name, value in metrics.items() if name.startswith(kept)}
    log = read_train_log(made.path / "train_log.jsonl")
    last = log[-(len(log) // 10 or 1) :]
    for name in _TRAINING:
        if all(name in row for row in last):
            found[f"train/{name}"] = fmean(row[name] for row in last)
    return found


def _values(path: Path) -> dict[str, float]:
    metrics = json.loads(path.read_bytes())["metrics"]
    return {name: estimate["value"] for name, estimate in metrics.items()}
