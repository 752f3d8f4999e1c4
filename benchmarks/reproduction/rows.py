"""The study's numbers, one row a run: what every table and verdict is made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.reproduction.protocol import SETTINGS, Cell
from benchmarks.reproduction.scoring import score
from benchmarks.reproduction.skills import Split
from benchmarks.reproduction.study import Study
from tspin.compare.arms import Arm
from tspin.compare.folders import ComparisonFolder
from tspin.records.training_log import read_train_log
from tspin.runs.folder import BASE, RunFolder

__all__ = [
    "collect_rows",
    "collect_settings",
    "finished_runs",
    "kept_skills",
    "metric_values",
    "on_test",
    "validation_values",
]

_TRAINING = (
    "rewards/higher_but_less_likely",
    "rewards/saturated",
    "lengths/annotated",
    "lengths/synthetic",
    "logps/annotated",
    "logps/synthetic",
    "logps/proto_synthetic",
)


def finished_runs(folder: ComparisonFolder) -> Iterator[tuple[Arm, dict[str, Any]]]:
    """Method and record of every run of a comparison; none before it is finished."""
    if folder.result.is_file():
        for made in json.loads(folder.result.read_bytes())["arms"]:
            arm = Arm(made["name"], made["method"], made["share"], made["matched"])
            for run in made["runs"]:
                yield arm, run


def collect_rows(study: Study, cell: Cell) -> Iterator[dict[str, Any]]:
    """One row a method and seed of a cell; none before its final comparison is finished."""
    folder = ComparisonFolder(study.final(cell))
    for arm, run in finished_runs(folder):
        moments = {"base": BASE, "best": run["best"], "last": run["iterations"] - 1}
        yield {
            "skill": cell.skill,
            "base": cell.base,
            "arm": arm.name,
            "seed": run["seed"],
            "best_iteration": run["best"],
            "learning_rate": study.select(cell)[arm.name],
            "epochs": run["epochs"],
            "cost": run["cost"],
            "test": {
                moment: on_test(study, folder, cell, arm, run["seed"], number)
                for moment, number in moments.items()
            },
            "iterations": [
                _iteration(folder.run(arm, run["seed"]), number)
                for number in range(run["iterations"])
            ],
        }


def collect_settings(study: Study, cell: Cell) -> list[dict[str, Any]]:
    """Exactness on validation after the last iteration of each finished run of `vary`."""
    rows = []
    for setting in SETTINGS:
        for seed in study.protocol.seeds:
            folder = RunFolder(study.sensitive(cell, setting, seed))
            number = study.protocol.iterations - 1
            if not folder.iteration(number).metrics.is_file():
                continue
            last = _iteration(folder, number)
            where = {"skill": cell.skill, "base": cell.base, "setting": setting, "seed": seed}
            rows.append({**where, "greedy": last["greedy"]})
    return rows


def on_test(
    study: Study, folder: ComparisonFolder, cell: Cell, arm: Arm, seed: int, number: int
) -> dict[str, float]:
    """Of the skill that was taught; `retained/*` are means over the others."""
    path = folder.measured(arm, seed, "test", number)
    found = score(path, cell.skill, study.items(cell.skill, "test"))
    found["nll_per_token"] = metric_values(path)["nll_per_token"]
    others = {skill: folder.measured(arm, seed, skill, number) for skill in cell.others}
    return found | kept_skills(study, others, "test")


def kept_skills(study: Study, others: Mapping[str, Path], split: Split) -> dict[str, float]:
    """What is left of the skills that are not taught, as means over them.

    Args:
        study: Knows how many records there are.
        others: By skill: metrics.json of the evaluation on its own answers.
        split: Of which split they are.
    """
    found: dict[str, float] = {}
    scores = [
        score(path, skill, study.items(skill, split, taught=False))
        for skill, path in others.items()
    ]
    for mode in ("greedy", "sampled"):
        found[f"retained/{mode}"] = fmean(each[f"right/{mode}"] for each in scores)
    nlls = [metric_values(path)["nll_per_token"] for path in others.values()]
    return found | {"retained/nll_per_token": fmean(nlls)}


def _iteration(folder: RunFolder, number: int) -> dict[str, float]:
    """On validation, and at the end of training: means over the last tenth of its steps."""
    made = folder.iteration(number)
    found = validation_values(made.metrics)
    log = read_train_log(made.path / "train_log.jsonl")
    last = log[-(len(log) // 10 or 1) :]
    for name in _TRAINING:
        if all(name in row for row in last):
            found[f"train/{name}"] = fmean(row[name] for row in last)
    return found


def validation_values(path: Path) -> dict[str, float]:
    """On the held-out records: exactness as `greedy` and `sampled`, likelihood, margins, tokens."""
    metrics = metric_values(path)
    found = {
        mode: next(
            value
            for name, value in metrics.items()
            if name.startswith("exact_match/") and name.endswith(f"/{mode}")
        )
        for mode in ("greedy", "sampled")
    }
    kept = ("nll_per_token", "margins/", "accuracies/", "response_tokens/")
    return found | {name: value for name, value in metrics.items() if name.startswith(kept)}


def metric_values(path: Path) -> dict[str, float]:
    """What a metrics.json holds, without intervals."""
    metrics = json.loads(path.read_bytes())["metrics"]
    return {name: estimate["value"] for name, estimate in metrics.items()}
