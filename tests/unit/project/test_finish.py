"""The end of iterations that were made one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.made_runs import make_run
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.project.finish import finish


def config_of(run: Path, **given: object) -> RunConfig:
    values = json.loads((run / "config.json").read_bytes())
    return RunConfig.model_validate(values | {"run_dir": str(run)} | given)


def test_curves_best_and_report_are_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "best.json").unlink()
    folder = finish(config_of(run))
    best = json.loads(folder.best.read_bytes())
    assert best["iteration"] == 2
    rows = json.loads((run / "iterations.json").read_bytes())
    assert [row["iteration"] for row in rows] == [-1, 0, 1, 2]
    assert len({tuple(sorted(row)) for row in rows}) == 1  # DVC draws no curve otherwise.
    training = json.loads((run / "training.json").read_bytes())
    assert [row["step"] for row in training] == list(range(1, len(training) + 1))
    values = json.loads((run / "values/2.json").read_bytes())
    assert values[best["metric"]] == best["value"]
    assert "All 3 iterations ran." in folder.report.read_text()


def test_an_iteration_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", iterations=2)
    with pytest.raises(InputError, match=r"iter-2/model: not there, but iterations is 3"):
        finish(config_of(run))
