"""Paths that a shell would take apart, in a project whose own folder has such a name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dvc.project import SMALL, Project

pytestmark = pytest.mark.dvc

RUN = """runs/it's "mine" $(touch y) & [a]"""
DATA = "my $HOME data [1]"


def test_every_stage_runs_with_paths_that_need_quoting(tmp_path: Path) -> None:
    project = Project(tmp_path / "a 'project' & [b]")
    (project.folder / "sample").rename(project.folder / DATA)
    for path in (project.folder / DATA).glob("*.dvc"):
        path.unlink()
    data = {name: f"{DATA}/{name}.jsonl" for name in ("annotated", "heldout")}
    project.change(run_dir=RUN, data=data, model={"path": f"{DATA}/base"})
    project.run("tspin", "dvc", "sync")
    stages = project.repro()
    assert [stage for stage in stages if stage.startswith("train")] == ["train@0", "train@1"]
    run = project.folder / RUN
    assert len(json.loads((run / "iterations.json").read_bytes())) == SMALL["iterations"] + 1
    assert (run / "report.html").is_file()
    assert not list(project.folder.rglob("y"))
    assert project.repro() == []


def test_a_path_that_was_changed_since_runs_no_command(tmp_path: Path) -> None:
    """The stages were written for another path; nobody has looked at this one yet."""
    project = Project(tmp_path / "project")
    project.change(run_dir="x$(touch y)", model={"path": "'; touch y; '"})
    done = project.popen("dvc", "repro")
    printed = done.communicate()[0]
    assert done.returncode != 0
    assert "was not written for this params.yaml" in printed
    assert not list(project.folder.rglob("y"))
