"""What an MLflow server has of runs, steps and comparisons; once, however often it is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trackers.mlflow_server import MlflowServer
from tests.trackers.tracked_run import make_config
from tspin.compare import Comparison, compare, parse_arms
from tspin.evaluate.step import evaluate
from tspin.records.estimate import read_estimates
from tspin.records.training_log import read_train_log
from tspin.runs.folder import BASE, RunFolder
from tspin.selfplay import run
from tspin.tracking.run import NOTE
from tspin.tracking.tracked import Step, tracked_step
from tspin.train.step import train

pytestmark = pytest.mark.trackers


def test_a_run_and_its_iterations(
    tmp_path: Path, tiny_model_dir: Path, server: MlflowServer, experiment: str
) -> None:
    config = make_config(tmp_path, tiny_model_dir, "mlflow")
    folder = run(config)
    runs = server.runs(experiment)
    assert {name: r.status for name, r in runs.items()} == dict.fromkeys(
        ["run", "initial policy", "iteration 0", "iteration 1"], "FINISHED"
    )
    whole, second = runs["run"], runs["iteration 1"]
    assert whole.params["train.global_batch_size"] == "4"
    assert second.params == {"train.learning_rate": "0.001", "train.beta": "0.1"}
    assert {r.parent for name, r in runs.items() if name != "run"} == {whole.id}
    rows = read_train_log(folder.iteration(1).train_log)
    assert len(rows) == 3
    for name in ("loss", "rewards/accuracies"):
        expected = [(row["step"], pytest.approx(row[name])) for row in rows]
        assert second.curve(f"train/{name}") == expected
    by_iteration = {n: read_estimates(folder.iteration(n).metrics) for n in (BASE, 0, 1)}
    for ending, value in {"": "value", ".low": "low", ".high": "high"}.items():
        assert whole.curve(f"heldout/nll_per_token{ending}") == [
            (n, pytest.approx(getattr(found["nll_per_token"], value)))
            for n, found in by_iteration.items()
        ]
    manifest = json.loads((folder.iteration(1).path / "model.manifest.json").read_bytes())
    assert second.tags["tspin.model.sha256"] == manifest["sha256"]
    assert second.tags["tspin.model.from.triplets"] == manifest["inputs"]["triplets"]
    assert whole.tags["tspin.best.iteration"] == str(
        json.loads(folder.best.read_bytes())["iteration"]
    )
    assert whole.artifacts == ["report.html"]

    (folder.path / NOTE).unlink()  # Found again by its tag, and nothing comes twice.
    before = {name: (r.metrics, r.tags, r.params) for name, r in runs.items()}
    run(config)
    again = server.runs(experiment)
    assert {name: (r.metrics, r.tags, r.params) for name, r in again.items()} == before
    assert len(again["iteration 1"].curve("train/loss")) == 3
    assert len(again["run"].curve("heldout/nll_per_token")) == 3


def test_a_tracked_run_makes_the_same_files(
    tmp_path: Path, tiny_model_dir: Path, server: MlflowServer, experiment: str
) -> None:
    texts = []
    for name, trackers in {"plain": (), "told": ("mlflow",)}.items():
        config = make_config(tmp_path / name, tiny_model_dir, *trackers)
        made = run(config.model_copy(update={"iterations": 1})).iteration(0)
        manifests = (
            path.with_name(f"{path.name}.manifest.json") for path in (made.model, made.metrics)
        )
        texts.append([path.read_bytes() for path in manifests])
    assert texts[0] == texts[1]
    assert not (tmp_path / "plain/run" / NOTE).exists()


def test_steps_of_a_pipeline_tell_the_runs_of_their_tasks(
    tmp_path: Path,
    tiny_model_dir: Path,
    server: MlflowServer,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tmp_path, tiny_model_dir, train={"method": "sft"})
    number = server.create_experiment(experiment)
    pipeline = server.create_run(number, "pipeline")
    model, metrics = tmp_path / "task-1/model", tmp_path / "task-2/metrics.json"
    data = {name: tmp_path / f"{name}.jsonl" for name in ("annotated", "heldout")}

    def train_task() -> None:
        with tracked_step(Step("train", model, 3, config)):
            train(
                config,
                model=str(tiny_model_dir),
                triplets=data["annotated"],
                iteration=3,
                out=model,
            )

    def evaluate_task() -> None:
        with tracked_step(Step("evaluate", metrics, 3, config)):
            evaluate(
                config,
                model=str(model),
                annotated=data["heldout"],
                out=metrics,
                proto=None,
                iteration=3,
            )

    for task in (train_task, evaluate_task):
        monkeypatch.setenv("MLFLOW_RUN_ID", server.create_run(number, task.__name__, pipeline))
        task()
        task()  # A second try of the pod.
    runs = server.runs(experiment)
    assert {name: r.status for name, r in runs.items()} == dict.fromkeys(
        ["pipeline", "train_task", "evaluate_task"], "RUNNING"
    )
    rows = read_train_log(model.with_name("train_log.jsonl"))
    trained = runs["train_task"]
    assert trained.curve("train/loss") == [(r["step"], pytest.approx(r["loss"])) for r in rows]
    assert trained.tags["tspin.iteration"] == "3"
    value = pytest.approx(read_estimates(metrics)["nll_per_token"].value)
    for name in ("evaluate_task", "pipeline"):
        assert runs[name].curve("heldout/nll_per_token") == [(3, value)]


def test_a_step_of_a_run_folder_tells_the_run_of_the_folder(
    tmp_path: Path, tiny_model_dir: Path, server: MlflowServer, experiment: str
) -> None:
    config = make_config(tmp_path, tiny_model_dir, "mlflow", train={"method": "sft"})
    out = RunFolder(Path(config.run_dir)).iteration(0).model
    with tracked_step(Step("train", out, 0, config)):
        train(
            config,
            model=str(tiny_model_dir),
            triplets=tmp_path / "annotated.jsonl",
            iteration=0,
            out=out,
        )
    runs = server.runs(experiment)
    assert {name: r.status for name, r in runs.items()} == {
        "run": "RUNNING",
        "iteration 0": "RUNNING",
    }
    assert len(runs["iteration 0"].curve("train/loss")) == 3


def test_methods_are_nested_in_their_comparison(
    tmp_path: Path, tiny_model_dir: Path, server: MlflowServer, experiment: str
) -> None:
    config = make_config(tmp_path, tiny_model_dir, "mlflow", iterations=1)
    asked = Comparison(config, parse_arms(["tspin", "sft"]), [0])
    compare(asked, tmp_path / "compared")
    runs = server.runs_below(experiment)
    assert set(runs) == {
        "compared",
        *(f"compared/seed-0/{arm}" for arm in ("tspin", "sft")),
        *(
            f"compared/seed-0/{arm}/{name}"
            for arm in ("tspin", "sft")
            for name in ("initial policy", "iteration 0")
        ),
    }
    assert {r.status for r in runs.values()} == {"FINISHED"}
    assert runs["compared"].artifacts == ["compare.html", "compare.json"]
    assert runs["compared/seed-0/sft"].params["train.method"] == "sft"
