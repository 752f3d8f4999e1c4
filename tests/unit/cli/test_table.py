"""The table of iterations: what a run folder may hold, and names that look like rich's markup."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from made_runs import make_run
from rich.console import Console
from typer.testing import CliRunner

import tspin.selfplay
from tspin.cli import compare
from tspin.cli.main import app
from tspin.cli.table import iteration_table
from tspin.compare.tables import MethodRow, Part
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


HOSTILE = ("a[bold]c:bug:", "a[/b]c")
"""Markup that vanishes, and markup that rich refuses."""


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_user_named_is_printed_as_it_is(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / name, iterations=1, planned=1)
    path, metric = run / "best.json", f"exact_match/{name}"
    best = json.loads(path.read_bytes())
    path.write_text(json.dumps(best | {"metric": metric, "stopped": f"{metric} fell"}))
    path = run / "iter-0" / "metrics.json"
    content = json.loads(path.read_bytes())
    content["metrics"][metric] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    path.write_text(json.dumps(content))
    printed = io.StringIO()
    Console(file=printed, width=300).print(iteration_table(RunFolder(run)))
    title, table = printed.getvalue().split("\u250f", 1)
    assert "".join(title.split()).endswith(f"/{name}")  # A title is as wide as its table.
    assert f"\u2502 {name} " in table
    assert "".join(table.split()).endswith(f"exact_match/{name}fell")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_ends_with_its_table_and_its_report(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = make_run(tmp_path / name, iterations=1, planned=1)
    monkeypatch.setattr(tspin.selfplay, "run", lambda *_, **__: RunFolder(run))
    data = tmp_path / "a.jsonl"
    data.write_text('{"id": "1", "prompt": "p", "response": "r"}\n')
    config = tmp_path / "run.yaml"
    values = {"model": {"path": str(tiny_model_dir)}, "data": {"annotated": str(data)}}
    config.write_text(json.dumps({"run_dir": str(run), **values}))
    done = CliRunner().invoke(app, ["run", "--config", str(config)], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"report: {run}/report.html" in done.stdout


@pytest.mark.parametrize("name", HOSTILE)
def test_a_comparison_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], name: str) -> None:
    part = Part(name, f"note {name}", ["method", name], [MethodRow(f"row {name}", [(name, "")])])
    compare._print(part)
    assert capsys.readouterr().out.count(name) == 5
