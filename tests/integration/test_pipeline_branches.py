"""Early stop, faults, baselines, single iterations and evaluation, run by kfp itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.local_pipelines import LocalKubeflow
from tspin.records.manifest import content_hash
from tspin.records.seconds import SECONDS
from tspin.registry import Registry
from tspin.selfplay import run as play
from tspin_pipelines.profiles.profile import load_profile

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def kubeflow(tmp_path: Path) -> LocalKubeflow:
    return LocalKubeflow(tmp_path)


def test_a_refused_gate_stops_the_run_which_still_reports_and_promotes(
    kubeflow: LocalKubeflow,
) -> None:
    # The second of three iterations makes the policy worse by far.
    config = kubeflow.config(
        "iterations=3", "train.learning_rate=[3e-5,1e-2,3e-5]", "gate.margin=0"
    )
    registry = kubeflow.folder / "registry"
    kubeflow.run("run", config, registry=str(registry))
    ran = kubeflow.tasks()
    assert (ran["train"], ran["gate"], ran["report"], ran["promote"]) == (2, 3, 1, 1)
    # Both protos, y' of iteration 1, and y' of the iteration that the gate then refuses to train.
    assert (ran["generate"], ran["build-triplets"]) == (4, 2)
    told = kubeflow.one("report", "summary").read_text()
    assert "Stopped early" in told
    assert "Iteration 2 had begun, and its generation (16 responses, " in told
    assert "Iteration 2 had begun" in kubeflow.one("report", "page").read_text()
    history = kubeflow.all("gate", "grown")[-1]
    assert json.loads((history / "best.json").read_bytes())["iteration"] == 0
    champion = Registry(str(registry)).champion()
    assert champion is not None
    assert champion.model == content_hash(kubeflow.all("train", "trained")[0] / "model")


def test_nothing_is_generated_in_vain_where_that_is_asked(kubeflow: LocalKubeflow) -> None:
    settings = ("train.learning_rate=1e-2", "gate.margin=0", "system.speculate=false")
    kubeflow.run("run", kubeflow.config(*settings))
    ran = kubeflow.tasks()
    assert (ran["generate"], ran["train"], ran["report"]) == (2, 1, 1)
    told = kubeflow.one("report", "summary").read_text()
    assert "Stopped early" in told
    assert "had begun" not in told


def test_iterations_that_no_gate_stops_are_those_of_tspin_run(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config("gate.margin=null", "system.threads=1")
    kubeflow.run("run", config)
    folder = play(config)
    trained = [path / "model" for path in kubeflow.all("train", "trained")]
    assert [content_hash(path) for path in trained] == [
        content_hash(folder.iteration(number).model) for number in range(2)
    ]
    history = kubeflow.all("gate", "grown")[-1]
    for number in range(2):
        ours = (history / f"iter-{number}/metrics.json").read_bytes()
        assert ours == folder.iteration(number).metrics.read_bytes()
    ours, theirs = (
        json.loads((path / "best.json").read_bytes()) for path in (history, folder.path)
    )
    assert ours == theirs


def test_a_failed_step_fails_the_run_and_a_rerun_does_the_rest(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config("iterations=1", "gate.margin=null")
    (kubeflow.shared / "checkpoints").write_text("in the way of the folder")
    with pytest.raises(RuntimeError, match="train"):
        kubeflow.run("run", config)
    assert kubeflow.tasks()["generate"] == 2
    assert kubeflow.tasks()["report"] == 0
    (kubeflow.shared / "checkpoints").unlink()
    kubeflow.run("run", config)
    assert kubeflow.tasks() == Counter(
        {"preflight": 1, "check-inputs": 1, "train": 1, "evaluate": 1, "gate": 1, "report": 1}
    )


def test_supervised_fine_tuning_generates_nothing(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config("train.method=sft", "iterations=1", heldout=False)
    kubeflow.run("run", config)
    ran = kubeflow.tasks()
    assert (ran["generate"], ran["build-triplets"], ran["evaluate"]) == (0, 0, 0)
    trained = kubeflow.one("train", "trained") / "model"
    assert content_hash(trained) == content_hash(play(config).iteration(0).model)


def test_spin_trains_on_the_same_triplets(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config("train.method=spin", "iterations=1", "gate.margin=null")
    kubeflow.run("run", config)
    trained = kubeflow.one("train", "trained") / "model"
    assert content_hash(trained) == content_hash(play(config).iteration(0).model)


def test_a_single_iteration_goes_on_from_any_model(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config("gate.margin=null")
    folder = play(config)
    begun = str(folder.iteration(0).model)
    kubeflow.run("iteration", config, model=begun, iteration=1)
    trained = kubeflow.one("train", "trained") / "model"
    assert content_hash(trained) == content_hash(folder.iteration(1).model)
    assert kubeflow.tasks()["evaluate"] == 2
    measured = kubeflow.all("evaluate", "evaluation")[-1] / "metrics.json"
    assert measured.read_bytes() == folder.iteration(1).metrics.read_bytes()


def test_evaluation_alone(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config()
    kubeflow.run("evaluate", config, model=config.model.path)
    assert kubeflow.tasks() == Counter(
        {"preflight": 1, "check-inputs": 1, "import-data": 1, "import-model": 2, "evaluate": 1}
    )
    scalars = json.loads(kubeflow.one("evaluate", "scalars").read_bytes())
    assert scalars["nll_per_token"] > 0


def test_tasks_are_fetched_before_they_are_asked_and_again_by_each_run(
    kubeflow: LocalKubeflow,
) -> None:
    """Kubeflow's cache knows of no claim that somebody emptied."""
    config = kubeflow.config()
    harness = config.evaluate.harness.model_copy(
        update={"task_folder": str(kubeflow.shared / "demo/tasks"), "fraction": 0.05}
    )
    evaluation = config.evaluate.model_copy(update={"tasks": ("demo_answer",), "harness": harness})
    config = config.model_copy(update={"evaluate": evaluation})
    for evaluated in (1, 0):
        kubeflow.run("evaluate", config, model=config.model.path)
        assert kubeflow.tasks()["fetch-tasks"] == 1
        assert kubeflow.tasks()["evaluate"] == evaluated
    scalars = json.loads(kubeflow.one("evaluate", "scalars", run=0).read_bytes())
    assert "lm_eval/demo_answer/exact_match/answer-is" in scalars


@pytest.mark.parametrize("method", ["tspin", "sft"])
def test_an_evaluation_over_pods_is_that_of_one(kubeflow: LocalKubeflow, method: str) -> None:
    """With the responses of the initial policy to compare with, and without."""
    overrides = ("iterations=1", "gate.margin=null", f"train.method={method}")
    config = kubeflow.config(*overrides, "system.generate_batch_size=1")
    profile = load_profile("cpu")
    evaluation = profile.stages.evaluate.model_copy(update={"shards": 2})
    stages = profile.stages.model_copy(update={"evaluate": evaluation})
    kubeflow.run("run", config, profile=profile.model_copy(update={"stages": stages}))
    ran = kubeflow.tasks()
    assert (ran["evaluate"], ran["merge-evaluations"]) == (4, 2)
    folder = play(config)
    for at, number in enumerate((-1, 0)):
        merged = kubeflow.all("merge-evaluations", "evaluation")[at]
        alone = folder.iteration(number).metrics
        for path in sorted(merged.iterdir()):
            if path.name.endswith(SECONDS):
                continue  # No two evaluations take the same.
            assert path.read_bytes() == alone.with_name(path.name).read_bytes(), path.name
    assert len(list(merged.iterdir())) > 6
    scalars = json.loads(kubeflow.all("merge-evaluations", "scalars")[-1].read_bytes())
    assert scalars["nll_per_token"] > 0
