"""`tspin plan`: its counts against a real run, its command, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from planned_runs import sections, write_data

from tests import warm
from tspin.config import RunConfig
from tspin.demo.demo import BASE
from tspin.planning.plan import RunPlan, plan_run
from tspin.planning.where import Target
from tspin.records.manifest import read_manifest
from tspin.records.records import Response, read_records
from tspin.runs.folder import BASE as INITIAL
from tspin.runs.folder import EvaluationFiles, RunFolder
from tspin.selfplay import run

pytestmark = pytest.mark.integration

ANNOTATED, HELDOUT = 24, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunPlan]:
    """A run, and its plan."""
    folder = tmp_path_factory.mktemp("planned")
    write_data(folder, ANNOTATED, HELDOUT)
    config = RunConfig.model_validate(sections(folder))
    plan = plan_run(config, Target.of(config), utilisation=0.4)
    return run(config), plan


def test_a_plan_counts_what_the_run_then_made(made: tuple[RunFolder, RunPlan]) -> None:
    folder, plan = made
    kinds = [(one.stage.kind, one.stage.iteration) for one in plan.stages]
    assert kinds == [
        ("heldout_proto", None),
        ("base", None),
        ("proto", 0),
        ("triplets", 0),
        ("train", 0),
        ("evaluate", 0),
        ("generate", 1),
        ("triplets", 1),
        ("train", 1),
        ("evaluate", 1),
    ]
    stages = dict(zip(kinds, plan.stages, strict=True))
    real = sum(tokens_of(folder.iteration(1).synthetic))
    assert stages["generate", 1].stage.expected.generated_tokens == pytest.approx(real, rel=0.02)
    assert stages["generate", 1].stage.expected.responses == ANNOTATED
    files = EvaluationFiles(folder.iteration(0).metrics)
    answers = [*tokens_of(files.answers("greedy")), *tokens_of(files.answers("sampled"))]
    evaluated = stages["evaluate", 0].stage.expected
    assert evaluated.responses == len(answers) == 2 * HELDOUT
    assert evaluated.generated_tokens == pytest.approx(sum(answers), rel=0.02)
    manifest = read_manifest(folder.iteration(1).model)
    assert manifest is not None
    assert stages["train", 1].stage.expected.steps == manifest.counts["steps"]


def test_a_plan_counts_the_bytes_that_the_run_then_kept(made: tuple[RunFolder, RunPlan]) -> None:
    folder, plan = made
    by_kind = {(one.stage.kind, one.stage.iteration): one for one in plan.stages}
    model = sum(path.stat().st_size for path in folder.iteration(1).model.iterdir())
    assert by_kind["train", 1].stage.expected.written == pytest.approx(model, rel=0.02)
    for kind, path in (
        ("generate", folder.iteration(1).synthetic),
        ("triplets", folder.iteration(1).triplets),
    ):
        written = by_kind[kind, 1].stage.expected.written
        assert written == pytest.approx(path.stat().st_size, rel=0.1), kind
    kept = [
        *(folder.iteration(number).path for number in (INITIAL, 0, 1)),
        folder.proto,
        folder.heldout_proto,
    ]
    files = [path for place in kept for path in (place.rglob("*") if place.is_dir() else [place])]
    total = sum(path.stat().st_size for path in files if path.is_file())
    assert plan.work().written == pytest.approx(total, rel=0.05)


def tokens_of(path: Path) -> list[int]:
    return [response.response_tokens for response in read_records(path, Response)]


def tspin_plan(folder: Path, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    (folder / "run.yaml").write_text(yaml.safe_dump(sections(folder, **changes)))
    command = [sys.executable, "-m", "tspin", "plan", "--config", "run.yaml", *options]
    return warm.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_data(tmp_path, 6, 4)
    return tmp_path


def test_the_command_measures_a_cpu_and_writes_nothing(project: Path) -> None:
    # What cannot be read as weights was not.
    model = project / "model"
    model.mkdir()
    for path in BASE.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "model.safetensors").write_bytes(b"these are no weights")
    before = {*project.iterdir()}
    done = tspin_plan(project, "--json", model={"path": "model"})
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert {*project.iterdir()} - before == {project / "run.yaml"}
    assert plan["speed"]["train"]["measured_training_flops"] > 0
    assert plan["data"]["annotated"]["records"] == 6
    assert [stage["gpus"] for stage in plan["stages"]] == [0] * 10
    assert plan["total"]["seconds"] == pytest.approx(
        sum(stage["seconds"] for stage in plan["stages"])
    )
    assert plan["total"]["money"] is None
    assert plan["most"]["generated_tokens"] >= plan["total"]["generated_tokens"] > 0


def test_the_command_shows_a_profile_with_its_price(project: Path) -> None:
    from tspin_pipelines.profiles.profile import PROFILES

    profile = yaml.safe_load((PROFILES / "gke-h100.yaml").read_text())
    profile["stages"]["train"]["price_per_gpu_hour"] = 1e6  # So small a training costs something.
    (project / "mine.yaml").write_text(yaml.safe_dump(profile))
    system = {"device": "auto"}
    done = tspin_plan(project, "--profile", "mine.yaml", system=system)
    assert done.returncode == 0, done.stderr
    assert "money" in done.stdout
    assert "8 x H100" in done.stdout
    assert "their pools have no price: base, evaluate, generate, heldout_proto" in done.stdout
    assert "as long as the annotations, cut at generate.max_new_tokens (8)" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "data.annotated=nowhere.jsonl"], "data.annotated is 'nowhere.jsonl': no such"),
        (["--set", "model.path=./nowhere"], "model './nowhere': no such folder"),
        (["--profile", "gke-h1000"], "unknown profile 'gke-h1000'; there are"),
        (["--device", "abacus", "--set", "system.device=auto"], "unknown GPU 'abacus'; known are"),
        (["--device", "h100"], "system.device is 'cpu', and a GPU is named"),
        (["--set", "prompt.max_length=40"], "a.jsonl:1: record 'demo-train-00001' needs"),
    ],
)
def test_wrong_input_is_told_in_one_message(options: list[str], said: str, project: Path) -> None:
    done = tspin_plan(project, *options)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
