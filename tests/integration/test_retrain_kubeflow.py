"""Retraining by a Kubeflow run: submitted, waited for, and never a promotion of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kubeflow_server import kubeflow_server
from tests.model_registry_server import ModelRegistryServer
from tests.registry_models import METRIC, make_candidate
from tspin.files import sha256_file
from tspin.registry import Registry, promote

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Under git; its data are files that git holds."""
    folder = tmp_path / "project"
    run(tmp_path, sys.executable, "-m", "tspin", "init", "project")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "begin"]):
        run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", *command)
    model, metrics = make_candidate(tmp_path / "a", 1, 0.5)
    registry = str(tmp_path / "registry")
    promote(model, metrics=metrics, registry=registry, metric=METRIC, direction="max", by="me")
    return folder


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def retrain(project: Path, url: str, *options: str, path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tspin", "retrain", "--mode", "kubeflow"]
    command += ["--registry", str(project.parent / "registry"), "--summary", "retrain.md", *options]
    environment = os.environ | {"KFP_HOST": url, "PYTHONPATH": path}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def test_the_run_is_submitted_and_followed(project: Path) -> None:
    mirror = ModelRegistryServer()
    mirror.start()
    with kubeflow_server() as server:
        options = ["--profile", "cpu", "--mirror", mirror.mirror]
        done = retrain(project, server.url, *options, path=str(ROOT))
        assert done.returncode == 0, done.stderr
        (submitted,) = server.runs
    mirror.stop()
    (champion,) = Registry(str(project.parent / "registry")).records()
    assert mirror.flagged() == [champion.model]
    assert "train: succeeded" in done.stdout
    registry = project.parent / "registry"
    assert str(registry) in str(submitted["pipeline_spec"])
    annotated = project / "sample/annotated.jsonl"
    there = registry / f"data/{sha256_file(annotated)}.jsonl"
    assert there.read_bytes() == annotated.read_bytes()
    assert str(there) in str(submitted["pipeline_spec"])
    assert "The champion stays: number 1." in (project / "retrain.md").read_text()


def test_a_run_may_be_left_to_itself_and_asked_for_later(project: Path) -> None:
    states = [("RUNNING", {"train": "RUNNING"}), ("SUCCEEDED", {"promote": "SUCCEEDED"})]
    with kubeflow_server(states=states) as server:
        done = retrain(project, server.url, "--profile", "cpu", "--no-wait", path=str(ROOT))
        assert done.returncode == 0, done.stderr
        (submitted,) = server.runs
        asked = [sys.executable, "-m", "tspin", "pipeline", "status", "r-1", "--host", server.url]
        printed = [subprocess.run(asked, capture_output=True, text=True).stdout for _ in range(2)]
    assert str(project.parent / "registry") in str(submitted["pipeline_spec"])
    assert done.stdout.splitlines()[-1] == "run r-1"
    assert "**Submitted**: run `r-1`" in (project / "retrain.md").read_text()
    assert printed == ["RUNNING\n", "SUCCEEDED\n"]


def test_a_failed_run_fails_and_the_champion_stays(project: Path) -> None:
    with kubeflow_server(states=[("FAILED", {"promote": "FAILED"})]) as server:
        done = retrain(project, server.url, "--profile", "cpu", path=str(ROOT))
    assert done.returncode == 1
    assert "**Failed**: the champion stays." in (project / "retrain.md").read_text()
    assert len(Registry(str(project.parent / "registry")).records()) == 1


def test_a_missing_profile_is_said_before_anything_is_sent(project: Path) -> None:
    with kubeflow_server() as server:
        without = retrain(project, server.url, path=str(ROOT))
        assert server.runs == []
    assert without.returncode == 2
    assert "mode kubeflow needs --profile" in without.stderr


def test_missing_packages_are_said_before_anything_is_done(project: Path, tmp_path: Path) -> None:
    package = tmp_path / "hidden/kfp.py"
    package.parent.mkdir()
    package.write_text("raise ModuleNotFoundError(\"No module named 'kfp'\", name='kfp')")
    path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
    with kubeflow_server() as server:
        without = retrain(project, server.url, "--profile", "cpu", path=path)
        assert server.runs == []
    assert without.returncode == 2
    assert "pip install 'tspin[pipelines]'" in without.stderr
    assert "pip install 'tspin[pipelines]'" in (project / "retrain.md").read_text()
    assert not (tmp_path / "registry/data").exists()
