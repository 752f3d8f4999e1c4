"""Bases and last policies once more, at a temperature fitted to validation records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reproduction.protocol import ARMS, UNTRAINED, Cell
from benchmarks.reproduction.rows import metric_values
from benchmarks.reproduction.study import Study
from tspin.config import RunConfig
from tspin.evaluate.step import evaluate
from tspin.runs.folder import BASE, RunFolder

__all__ = ["collect_tempered", "temper"]


def temper(study: Study, cell: Cell) -> None:
    """Fit on validation, measure on test: the base and each method's last policy, every seed."""
    for run, seed, arm in _runs(study, cell):
        config = RunConfig.model_validate_json((run.path / "config.json").read_bytes())
        settings = config.evaluate.model_copy(update={"fit_temperature": True})
        config = config.model_copy(update={"evaluate": settings})
        number = BASE if arm == UNTRAINED else study.protocol.iterations - 1
        model = config.model.path if arm == UNTRAINED else str(run.iteration(number).model)
        temperature = None
        for split in ("validation", "test"):
            evaluate(
                config,
                model=model,
                annotated=study.records(cell.skill, split),
                out=_out(study, cell, seed, arm, split),
                proto=None,
                iteration=number,
                temperature=temperature,
            )
            found = metric_values(_out(study, cell, seed, arm, split))
            temperature = found.get("temperature/fitted", temperature)


def collect_tempered(study: Study, cell: Cell) -> list[dict[str, Any]]:
    """One row a method (or the base) and seed: exactness and likelihood at both temperatures."""
    rows = []
    for _, seed, arm in _runs(study, cell):
        path = _out(study, cell, seed, arm, "test")
        if not path.is_file():
            continue
        found = metric_values(path)
        fitted = metric_values(_out(study, cell, seed, arm, "validation"))["temperature/fitted"]
        kept = {
            name.rpartition("/")[2]: value
            for name, value in found.items()
            if name.startswith("exact_match/")
        }
        nll = {name: found[name] for name in ("nll_per_token", "nll_per_token/fitted")}
        where = {"skill": cell.skill, "base": cell.base, "arm": arm, "seed": seed}
        rows.append({**where, "temperature": fitted, **kept, **nll})
    return rows


def _runs(study: Study, cell: Cell) -> Iterator[tuple[RunFolder, int, str]]:
    """Run, seed and method; for the base the run that has its configuration."""
    if not (study.final(cell) / "compare.json").is_file():
        return
    made = json.loads((study.final(cell) / "compare.json").read_bytes())["arms"]
    arms = [arm for arm in made if arm["name"] in ARMS]
    for position, arm in enumerate(arms):
        for run in arm["runs"]:
            folder = RunFolder(study.final(cell) / f"seed-{run['seed']}" / arm["name"])
            if position == 0:
                yield folder, run["seed"], UNTRAINED
            yield folder, run["seed"], arm["name"]


def _out(study: Study, cell: Cell, seed: int, arm: str, split: str) -> Path:
    return study.folder(cell) / "tempered" / f"seed-{seed}" / arm / split / "metrics.json"
