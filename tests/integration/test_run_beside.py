"""Evaluations beside the loop: the same bytes, whoever is killed, and nothing that waits."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_runs import wait_for
from whole_runs import Project

from tspin.config import load_config
from tspin.runs.history import History, Played, read_history
from tspin.selfplay import run

pytestmark = [pytest.mark.integration, pytest.mark.long]

BESIDE = ("--set", "system.evaluate_beside=on")
REFUSING = (
    "--set", "gate.metric=logps/annotated", "--set", "gate.direction=min", "--set", "gate.margin=0",
    "--set", "train.method=tspin_no_history", "--set", "train.sft_weight=1",
)  # fmt: skip
"""A gate that finds iteration 0 worse at once: it wants the likelihood of y to fall."""
WORKER = b"tspin.evaluations.worker"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Project:
    """Each evaluation within the loop."""
    project = Project(tmp_path_factory.mktemp("run") / "apart", tiny_model_dir)
    code, _, err = project.run("--set", "system.evaluate_beside=off")
    assert code == 0, err
    assert "evaluated beside" not in err
    return project


def results(project: Project) -> dict[str, str]:
    """All that a run leaves, but for the copies of its configuration, which say where it ran."""
    own = ("config.json", "report.html")
    return {name: sha256 for name, sha256 in project.outputs().items() if name not in own}


def untimed(history: History) -> list[Played]:
    """What was played, but for how long it took."""
    return [dataclasses.replace(played, seconds=()) for played in history.played]


def workers(project: Project) -> list[int]:
    """The processes that evaluate a policy of this project."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            here = (entry / "cwd").resolve() == project.folder.resolve()
            if entry.name.isdecimal() and WORKER in command and here:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def new_interpreters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes whose command the system knows, and which a signal stops that no one can catch."""
    with monkeypatch.context() as patched:
        patched.setattr("whole_runs.warm.Popen", subprocess.Popen)
        yield


def test_it_leaves_what_a_run_leaves_that_waits(
    apart: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    project = Project(tmp_path / "beside", tiny_model_dir)
    code, out, err = project.run(*BESIDE)
    assert code == 0, err
    assert "policies are evaluated beside the iterations that follow" in err
    assert results(project) == results(apart)
    ours, theirs = (read_history(one.run_dir, samples=6) for one in (project, apart))
    assert untimed(ours) == untimed(theirs)
    assert (ours.manifests, ours.best) == (theirs.manifests, theirs.best)
    assert "initial" in out
    assert project.run(*BESIDE)[0] == 0
    assert results(project) == results(apart)


def test_no_iteration_waits_for_an_evaluation(
    apart: Project, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "held", tiny_model_dir)
    with new_interpreters(monkeypatch):
        process = project.start(*BESIDE)
    wait_for(process, lambda: bool(workers(project)))
    (worker,) = workers(project)
    os.kill(worker, signal.SIGSTOP)
    # The last model is there before the first evaluation is.
    wait_for(process, (project.run_dir / "iter-1/model.manifest.json").is_file)
    assert not list(project.run_dir.glob("*/metrics.json"))
    os.kill(worker, signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert results(project) == results(apart)


def test_a_run_killed_while_evaluations_are_on_their_way_ends_with_the_same_bytes(
    apart: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    project = Project(tmp_path / "killed", tiny_model_dir)
    project.kill_when("base/.metrics*", options=BESIDE)
    project.kill_when("base/metrics.json", options=BESIDE)
    project.kill_when("iter-0/.metrics*", options=BESIDE)
    project.kill_when("iter-1/model", options=BESIDE)
    code, _, err = project.run(*BESIDE)
    assert code == 0, err
    assert results(project) == results(apart)


def test_an_evaluation_is_killed_with_its_run(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "orphan", tiny_model_dir)
    with new_interpreters(monkeypatch):
        process = project.start(*BESIDE)
    wait_for(process, lambda: bool(workers(project)))
    (worker,) = workers(project)
    ended = os.pidfd_open(worker)
    process.kill()
    process.communicate()
    select.select([ended], [], [])  # Readable when that process has ended.
    assert workers(project) == []


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGKILL, 1, "the evaluation's process was killed (SIGKILL)"),
        (signal.SIGTERM, 143, "the evaluation was stopped by SIGTERM"),
    ],
)
def test_a_killed_evaluation_ends_its_run_which_continues(
    number: signal.Signals,
    code: int,
    message: str,
    apart: Project,
    tmp_path: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Project(tmp_path / "alone", tiny_model_dir)
    with new_interpreters(monkeypatch):
        process = project.start(*BESIDE)
    wait_for(process, lambda: bool(workers(project)))
    os.kill(workers(project)[0], number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert message in err
    assert "Traceback" not in err
    ended, _, err = project.run(*BESIDE)
    assert ended == 0, err
    assert results(project) == results(apart)


def test_a_training_does_not_go_on_for_an_evaluation_that_failed(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "interrupted", tiny_model_dir)
    with new_interpreters(monkeypatch):
        process = project.start(*BESIDE, "--set", "train.epochs=2000")
    wait_for(process, lambda: bool(workers(project)))
    (worker,) = workers(project)
    os.kill(worker, signal.SIGSTOP)
    wait_for(process, lambda: bool(list(project.run_dir.glob("iter-0/model.checkpoints/*-*"))))
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "the evaluation's process was killed (SIGKILL)" in err
    assert not (project.run_dir / "iter-0/model").exists()
    assert list(project.run_dir.glob("iter-0/model.checkpoints/checkpoint-*"))


def test_an_evaluation_does_not_go_on_for_a_training_that_failed(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "failed", tiny_model_dir)
    project.run_dir.joinpath("iter-0").mkdir(parents=True)
    (project.run_dir / "iter-0/model.checkpoints").write_text("in the way of the folder")
    with new_interpreters(monkeypatch):
        process = project.start(*BESIDE)
    wait_for(process, lambda: bool(workers(project)))
    (worker,) = workers(project)
    os.kill(worker, signal.SIGSTOP)  # So that it cannot end by itself.
    _, err = process.communicate()
    assert process.returncode in (1, 2), err
    assert "model.checkpoints" in err
    assert workers(project) == []
    assert not (project.run_dir / "base/metrics.json").exists()


@pytest.mark.parametrize(
    # A training of three steps may be over before one of its checkpoints is seen.
    "moments",
    [("iter-0/model.checkpoints/checkpoint-*", "iter-0/model"), ("base/.metrics*",)],
)
def test_sigterm_ends_both_and_the_run_continues(
    moments: tuple[str, ...], apart: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    project = Project(tmp_path / "stopped", tiny_model_dir)
    process = project.start(*BESIDE)
    wait_for(process, lambda: any(list(project.run_dir.glob(moment)) for moment in moments))
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 143, err
    assert "stopped by SIGTERM" in err
    assert "Traceback" not in err
    code, _, err = project.run(*BESIDE)
    assert code == 0, err
    assert results(project) == results(apart)


@pytest.mark.parametrize("where", ["on", "off"])
def test_what_is_wrong_with_an_evaluation_is_said_as_in_the_loop(
    where: str, tmp_path: Path, tiny_model_dir: Path
) -> None:
    project = Project(tmp_path / "wrong", tiny_model_dir)
    heldout = project.folder / "heldout.jsonl"
    long = {"id": "long", "prompt": "say " * 200, "response": "much"}
    heldout.write_text(heldout.read_text() + json.dumps(long) + "\n")
    code, _, err = project.run(
        "--set", f"system.evaluate_beside={where}", "--set", "evaluate.max_records=null"
    )
    assert code == 2, err
    assert "heldout.jsonl" in err.splitlines()[-1]
    assert "'long'" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (project.run_dir / "base/metrics.json").exists()


def test_a_metric_that_the_gate_does_not_find_ends_the_run(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    project = Project(tmp_path / "metric", tiny_model_dir)
    code, _, err = project.run(*BESIDE, "--set", "gate.metric=nll")
    assert code == 2, err
    assert "gate.metric is 'nll'" in err
    assert "Traceback" not in err


def test_only_a_generation_comes_before_the_gate(tmp_path: Path, tiny_model_dir: Path) -> None:
    projects = {}
    for name, settings in {
        "off": ("system.evaluate_beside=off",),
        "on": ("system.evaluate_beside=on",),
        "waits": ("system.evaluate_beside=true", "system.speculate=false"),
    }.items():
        projects[name] = project = Project(tmp_path / name, tiny_model_dir)
        given = [word for setting in settings for word in ("--set", setting)]
        code, _, err = project.run(*REFUSING, *given)
        assert code == 0, err
        vain = "iteration 1 had begun, and its generation (12 responses, " in err
        assert vain == (name == "on"), err
    ours = results(projects["on"])
    begun = {name for name in ours if name.startswith("iter-1/")}
    assert "iter-1/synthetic.jsonl" in begun
    assert not [name for name in begun if "model" in name]
    assert {name: ours[name] for name in ours if name not in begun} == results(projects["off"])
    assert results(projects["waits"]) == results(projects["off"])
    page = (projects["on"].run_dir / "report.html").read_text()
    assert "Iteration 1 had begun, and its generation (12 responses, " in page
    history = read_history(projects["on"].run_dir, samples=0)
    assert [played.number for played in history.played] == [-1, 0]


def test_what_is_kept_is_evaluated(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "kept", tiny_model_dir)
    monkeypatch.chdir(project.folder)
    config = load_config(Path("run.yaml"), ["system.evaluate_beside=on", "system.threads=1"])
    kept = []

    def keep() -> None:
        best = json.loads((project.run_dir / "best.json").read_bytes())["iteration"]
        measured = {path.parent.name for path in project.run_dir.glob("*/metrics.json")}
        kept.append((best, measured))

    before = signal.getsignal(signal.SIGTERM)
    run(config, kept=keep)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [measured for _, measured in kept] == [
        {"base", "iter-0"},
        {"base", "iter-0", "iter-1"},
    ]
    assert all(best in (-1, *range(count)) for count, (best, _) in enumerate(kept, 1))
