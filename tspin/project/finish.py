"""The finish step: the best of iterations that were made one by one, their curves and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.files import write_json
from tspin.report.markdown import write_summary
from tspin.report.page import write_report
from tspin.runs.best import Best
from tspin.runs.config_file import write_run_config
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.history import History, read_history

__all__ = ["finish"]

CURVES = "iterations.json"
TRAINING = "training.json"
SUMMARY = "summary.md"
VALUES = "values"


def finish(config: RunConfig) -> RunFolder:
    """Say what `tspin run` says at its end, of a run folder whose steps others have run.

    Writes config.json, best.json, report.html and summary.md; values/N.json with the plain values
    of each evaluation, iterations.json with those of all, and training.json with the rows of all
    training logs, one after another, for whoever draws curves of them.

    Args:
        config: What the steps were run with.

    Raises:
        InputError: the run folder lacks an iteration.
    """
    folder = RunFolder(Path(config.run_dir))
    for number in range(config.iterations):
        outputs = folder.iteration(number)
        expected = (
            [outputs.model] if config.data.heldout is None else [outputs.model, outputs.metrics]
        )
        missing = [path for path in expected if not path.exists()]
        if missing:
            raise InputError(
                f"{missing[0]}: not there, but iterations is {config.iterations}; run all steps "
                "first (after another number of iterations: tspin dvc sync)"
            )
    write_run_config(folder.path, config)
    Best.of(config, folder, range(BASE, config.iterations)).write(config, folder)
    history = read_history(folder.path, samples=0)
    for played in history.played:
        values = {name: metric.value for name, metric in played.metrics.items()}
        write_json(folder.path / VALUES / f"{played.label}.json", values)
    write_json(folder.path / CURVES, _curves(history))
    write_json(folder.path / TRAINING, _training(history))
    write_report(folder.path)
    write_summary(folder.path, folder.path / SUMMARY)
    return folder


def _curves(history: History) -> list[dict[str, Any]]:
    """A row an iteration; names with dots, which DVC can address."""
    return _alike(
        [
            {"iteration": played.number}
            | {name.replace("/", "."): metric.value for name, metric in played.metrics.items()}
            for played in history.played
        ]
    )


def _training(history: History) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for played in history.played:
        before = len(rows)
        rows += (
            {**row, "iteration": played.number, "step": before + row["step"]}
            for row in played.steps
        )
    return _alike(rows)


def _alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only what all rows have: DVC draws no curve through others."""
    common = set.intersection(*(set(row) for row in rows)) if rows else set()
    return [{name: value for name, value in row.items() if name in common} for row in rows]
