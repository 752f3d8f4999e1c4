"""The table of iterations: what a run folder may hold, and names that look like rich's markup."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_runs import make_run

from tspin.cli.table import iteration_table
from tspin.report.page import write_report
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.history import read_history


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two iterations."""
    return make_run(tmp_path / "run", iterations=2, planned=2)


def test_folders_of_other_names_are_no_iterations(run: Path) -> None:
    """Somebody's copies: in no table, no history, no report, whatever they hold."""
    titles = [column.header for column in iteration_table(RunFolder(run)).columns]
    assert titles == ["iteration", "initial", "0", "1 (best)"]
    page = write_report(run).read_bytes()
    shutil.copytree(run / "iter-0", run / "iter-0.old")
    shutil.copytree(run / "iter-0", run / "iter-x")
    (run / "iter-x" / "model.manifest.json").write_text("half a")
    assert [column.header for column in iteration_table(RunFolder(run)).columns] == titles
    history = read_history(run, samples=1)
    assert [played.number for played in history.played] == [BASE, 0, 1]
    assert not any(name.startswith(("iter-0.old", "iter-x")) for name in history.manifests)
    assert write_report(run).read_bytes() == page
