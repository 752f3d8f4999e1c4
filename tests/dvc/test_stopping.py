"""Stages that are killed: nothing is lost, nobody is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dvc.project import Project

pytestmark = pytest.mark.dvc

SECONDS = 900.0
"""For what takes some: a start with torch, on a machine as busy as may be."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A training of 150 steps, with a checkpoint after each fifth."""
    made = Project(tmp_path_factory.mktemp("dvc") / "project", forked=False)
    made.change(iterations=1, train={"epochs": 50}, system={"checkpoint_steps": 5})
    made.run("tspin", "dvc", "sync")
    made.repro("triplets@0")
    made.commit("ready to train")
    return made


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def trainers(project: Project) -> list[int]:
    """Processes that train in the project."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or entry.joinpath("cwd").resolve() != project.folder:
                continue
            if b"tspin\0train\0" in entry.joinpath("cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def checkpoints(project: Project) -> list[int]:
    made = project.folder.glob(".checkpoints/*/checkpoint-*/complete.json")
    return sorted(int(path.parent.name.rpartition("-")[2]) for path in made)


def first_step(printed: str) -> int:
    return int(re.findall(r"step (\d+) of 150", printed)[0])


def test_a_killed_trainer_is_continued(project: Project) -> None:
    process = project.popen("dvc", "repro", "train@0")
    wait_for(process, lambda: bool(checkpoints(project)) and bool(trainers(project)))
    (trainer,) = trainers(project)
    os.kill(trainer, signal.SIGKILL)
    printed = process.communicate()[0]
    assert process.returncode != 0
    assert "failed to reproduce 'train@0'" in printed
    reached = checkpoints(project)[-1]
    # Stop it again, to leave something for the next test: DVC itself this time.
    second = project.popen("dvc", "repro", "train@0")
    # A look may meet none: the one that it listed is gone, the newer one came later.
    wait_for(second, lambda: max(checkpoints(project), default=0) > reached)
    (trainer,) = trainers(project)
    second.send_signal(signal.SIGTERM)
    second.wait()
    gone = time.monotonic() + SECONDS
    while trainers(project):
        assert time.monotonic() < gone, "the trainer outlives DVC"
        time.sleep(0.05)
    assert not (project.folder / "runs/first/iter-0/model").exists()
    third = project.run("dvc", "repro", "train@0")
    assert first_step(third) > reached
    assert (project.folder / "runs/first/iter-0/model/model.safetensors").is_file()
    assert checkpoints(project) == []
