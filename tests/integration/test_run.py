"""The whole loop on a tiny model: the same bytes after any kill, the gate, the refusals."""

import json
from pathlib import Path

import pytest
from whole_runs import Project

from tspin.records.seconds import WORK, read_seconds
from tspin.runs.folder import BASE, RunFolder

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("run") / "never-killed", tiny_model_dir)
    code, out, err = project.run()
    assert code == 0, err
    assert "report: runs/r/report.html" in out
    for step, times in {"generate": 3, "train": 2, "evaluate": 3}.items():
        lines = [line for line in err.splitlines() if f" INFO {step}: " in line]
        assert sum(" s before the first " in line for line in lines) == times, lines
    return project


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    finished: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    project = Project(tmp_path / "killed", tiny_model_dir)
    project.kill_when(".proto.jsonl.partial*", "proto.jsonl")
    project.kill_when("iter-0/model.checkpoints/checkpoint-*", "iter-0/model")
    project.kill_when("iter-0/model")
    project.kill_when("iter-1/triplets.jsonl")
    code, _, err = project.run()
    assert code == 0, err
    assert project.outputs() == finished.outputs()


def test_each_step_says_where_its_time_went(finished: Project) -> None:
    folder = RunFolder(finished.run_dir)
    first = read_seconds(folder.heldout_proto)
    assert first is not None
    assert first.before["imports"] > 0  # The process was started for it.
    outs = [folder.proto, folder.iteration(1).synthetic, folder.iteration(BASE).metrics]
    outs += [
        out for at in (0, 1) for out in (folder.iteration(at).model, folder.iteration(at).metrics)
    ]
    for out in outs:
        seconds = read_seconds(out)
        assert seconds is not None
        assert (seconds.finished, seconds.starts) == (True, 1)
        assert seconds.before["imports"] == 0
        assert {"loading", "tokenising"} <= seconds.before.keys()
        assert seconds.after[WORK[seconds.step]] > 0
    assert "Nobody timed" not in folder.report.read_text()
    assert "Where the time went" in folder.report.read_text()


def test_the_run_folder_holds_every_iterations_data(finished: Project) -> None:
    names = finished.outputs()
    for iteration in (0, 1):
        for name in ("synthetic.jsonl", "triplets.jsonl", "metrics.json", "train_log.jsonl"):
            assert f"iter-{iteration}/{name}" in names
        assert f"iter-{iteration}/model/model.safetensors" in names
    assert names["iter-0/synthetic.jsonl"] == names["proto.jsonl"]
    assert names["iter-1/synthetic.jsonl"] != names["proto.jsonl"]
    assert not [name for name in names if "checkpoints" in name or ".tmp" in name]


def test_iteration_one_trains_from_iteration_zero(finished: Project) -> None:
    manifests = [
        json.loads((finished.run_dir / f"iter-{t}/model.manifest.json").read_bytes())
        for t in (0, 1)
    ]
    assert manifests[1]["model"] == manifests[0]["sha256"]
    assert manifests[0]["inputs"]["proto_synthetic"] == manifests[1]["inputs"]["proto_synthetic"]
    assert manifests[0]["parameters"]["beta"] == 0
    assert manifests[1]["parameters"]["beta"] == 0.1


def test_a_second_run_changes_nothing(finished: Project) -> None:
    before = finished.outputs()
    code, out, _ = finished.run()
    assert code == 0
    assert "initial" in out
    assert finished.outputs() == before


def test_a_changed_configuration_is_refused(finished: Project) -> None:
    before = finished.outputs()
    code, _, err = finished.run("--set", "train.beta=0.3")
    assert code == 2
    assert "train.beta: 0.1 -> 0.3" in err
    assert "Traceback" not in err
    assert finished.outputs() == before


def test_the_gate_stops_a_run_that_gets_worse(tmp_path: Path, tiny_model_dir: Path) -> None:
    project = Project(tmp_path / "gated", tiny_model_dir)
    # SFT raises the likelihood of y; a gate that wants it to fall finds iteration 0 worse at once.
    code, out, err = project.run(
        "--set", "gate.metric=logps/annotated", "--set", "gate.direction=min",
        "--set", "gate.margin=0", "--set", "train.method=sft",
    )  # fmt: skip
    assert code == 0, err
    best = json.loads((project.run_dir / "best.json").read_bytes())
    assert best["iteration"] == -1
    assert "worse than" in best["stopped"]
    assert not (project.run_dir / "iter-1").exists()
    assert "iteration 0 has logps/annotated" in err
    assert "initial (best)" in out
