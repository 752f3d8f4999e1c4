"""What was measured of each run, gathered from the folders: every table is made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from study.items import score
from study.protocol import SETTINGS, Cell
from study.results import RunRow, SettingRow, TemperedRow
from study.skills import Split
from tspin.compare.arms import Arm
from tspin.compare.folders import ComparisonFolder
from tspin.records.training_log import read_train_log
from tspin.runs.folder import BASE, RunFolder

if TYPE_CHECKING:
    from study.stages import Study

__all__ = [
    "collect_runs",
    "collect_settings",
    "collect_tempered",
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
        for entry in json.loads(folder.result.read_bytes())["arms"]:
            arm = Arm(entry["name"], entry["method"], entry["share"], entry["matched"])
            for run in entry["runs"]:
                yield arm, run


def collect_runs(study: Study, cell: Cell) -> Iterator[RunRow]:
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
            "learning_rate": study.rate(cell, arm.name),
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


def collect_settings(study: Study, cell: Cell) -> list[SettingRow]:
    """Exactness on validation after the last iteration of each finished run of `vary`."""
    rows = []
    for setting in SETTINGS:
        for seed in study.protocol.seeds:
            folder = RunFolder(study.sensitive(cell, setting, seed))
            number = study.protocol.iterations - 1
            if not folder.iteration(number).metrics.is_file():
                continue
            last = _iteration(folder, number)
            run = {"skill": cell.skill, "base": cell.base, "setting": setting, "seed": seed}
            rows.append({**run, "greedy": last["greedy"]})
    return rows


def on_test(
    study: Study, folder: ComparisonFolder, cell: Cell, arm: Arm, seed: int, number: int
) -> dict[str, float]:
    """Measured on test, of the skill that was taught; `retained/*` are means over the others.

    Args:
        study: Knows the test records.
        folder: The comparison.
        cell: Its skill and base.
        arm: A method of it.
        seed: Which run.
        number: Which iteration; `BASE` is the initial policy.
    """
    path = folder.measured(arm, seed, "test", number)
    values = score(path, cell.skill, study.items(cell.skill, "test"))
    values["nll_per_token"] = metric_values(path)["nll_per_token"]
    others = {skill: folder.measured(arm, seed, skill, number) for skill in cell.others}
    return values | kept_skills(study, others, "test")


def kept_skills(study: Study, others: Mapping[str, Path], split: Split) -> dict[str, float]:
    """What is left of the skills that are not taught, as means over them.

    Args:
        study: Knows how many records there are.
        others: By skill: metrics.json of the evaluation on its own answers.
        split: Of which split they are.
    """
    means: dict[str, float] = {}
    scores = [
        score(path, skill, study.items(skill, split, taught=False))
        for skill, path in others.items()
    ]
    for mode in ("greedy", "sampled"):
        means[f"retained/{mode}"] = fmean(shares[f"right/{mode}"] for shares in scores)
    nlls = [metric_values(path)["nll_per_token"] for path in others.values()]
    return means | {"retained/nll_per_token": fmean(nlls)}


def _iteration(folder: RunFolder, number: int) -> dict[str, float]:
    """On validation, and at the end of training: means over the last tenth of its steps."""
    iteration = folder.iteration(number)
    values = validation_values(iteration.metrics)
    log = read_train_log(iteration.path / "train_log.jsonl")
    last = log[-(len(log) // 10 or 1) :]
    for name in _TRAINING:
        if all(name in row for row in last):
            values[f"train/{name}"] = fmean(row[name] for row in last)
    return values


def validation_values(path: Path) -> dict[str, float]:
    """On the held-out records: exactness as `greedy` and `sampled`, likelihood, margins, tokens."""
    metrics = metric_values(path)
    exactness = {
        mode: next(
            value
            for name, value in metrics.items()
            if name.startswith("exact_match/") and name.endswith(f"/{mode}")
        )
        for mode in ("greedy", "sampled")
    }
    names = ("nll_per_token", "margins/", "accuracies/", "response_tokens/")
    return exactness | {name: value for name, value in metrics.items() if name.startswith(names)}


def metric_values(path: Path) -> dict[str, float]:
    """What a metrics.json holds, without intervals."""
    metrics = json.loads(path.read_bytes())["metrics"]
    return {name: estimate["value"] for name, estimate in metrics.items()}


def collect_tempered(study: Study, cell: Cell) -> Iterator[TemperedRow]:
    """One row a method (or the base) and seed: exactness and likelihood at both temperatures."""
    for _, seed, arm in study.tempered_runs(cell):
        path = study.tempered(cell, seed, arm, "test")
        if not path.is_file():
            continue
        metrics = metric_values(path)
        validation = metric_values(study.tempered(cell, seed, arm, "validation"))
        exactness = {
            name.rpartition("/")[2]: value
            for name, value in metrics.items()
            if name.startswith("exact_match/")
        }
        yield {
            "skill": cell.skill,
            "base": cell.base,
            "arm": arm,
            "seed": seed,
            "temperature": validation["temperature/fitted"],
            **exactness,
            **{name: metrics[name] for name in ("nll_per_token", "nll_per_token/fitted")},
        }
