"""`dvc repro` runs what must be run, nothing else, and ends with the bytes of `tspin run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dvc.project import Project
from tspin.records.manifest import content_hash

pytestmark = pytest.mark.dvc

ALL = {
    "check",
    "proto",
    "heldout-proto",
    "evaluate-initial",
    *("triplets@0", "train@0", "evaluate@0"),
    *("generate@0", "triplets@1", "train@1", "evaluate@1"),
    "finish",
}
"""generate@0 is the first item: iteration 1."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("dvc") / "project")
    assert set(made.repro()) == ALL
    made.commit("first run")
    return made


def models(project: Project, run: str = "runs/first") -> list[str]:
    folders = sorted((project.folder / run).glob("iter-*/model"))
    return [content_hash(folder) for folder in folders]


def test_the_bytes_are_those_of_tspin_run(project: Project) -> None:
    project.run("tspin", "run", "--config", "params.yaml", "--set", "run_dir=runs/other")
    assert models(project) == models(project, "runs/other")
    best = [
        json.loads((project.folder / f"runs/{name}/best.json").read_bytes())
        for name in ("first", "other")
    ]
    assert best[0] == best[1]


def test_nothing_is_run_twice(project: Project) -> None:
    assert project.repro() == []
    assert project.run("git", "status", "--porcelain") == ""
    assert project.run("dvc", "status").strip() == "Data and pipelines are up to date."


def test_how_the_work_is_done_is_no_reason_to_do_it_again(project: Project) -> None:
    with project.changed(system={"tokens_per_device": 200, "generate_batch_size": 3}):
        assert project.repro() == []


def test_another_learning_rate_plays_again_and_the_old_one_comes_back(project: Project) -> None:
    before = models(project)
    with project.changed(train={"learning_rate": 3e-4}):
        ran = set(project.repro())
        once = {"check", "proto", "heldout-proto", "evaluate-initial", "triplets@0"}
        assert ran == ALL - once
        assert models(project) != before
        assert "learning_rate" in project.run("dvc", "params", "diff")
        changes = json.loads(project.run("dvc", "metrics", "diff", "--json"))
        assert "nll_per_token" in str(changes)
    assert project.repro() == []  # All of it from the run cache.
    assert models(project) == before


def test_another_beta_trains_again_but_iteration_0_has_no_history_to_weigh(
    project: Project,
) -> None:
    before = models(project)
    with project.changed(train={"beta": 0.3}):
        assert set(project.repro()) == {"train@0", "train@1", "evaluate@1", "finish"}
        assert models(project)[0] == before[0]
        assert models(project)[1] != before[1]
    assert project.repro() == []
    assert models(project) == before


def test_one_more_iteration_is_one_more(project: Project) -> None:
    before = models(project)
    project.change(iterations=3)
    refused = project.popen("dvc", "repro")
    printed = refused.communicate()[0]
    assert refused.returncode != 0
    assert "dvc.yaml was not written for this params.yaml; run: tspin dvc sync" in printed
    project.run("tspin", "dvc", "sync")
    ran = project.repro()
    assert set(ran) == {"check", "generate@1", "triplets@2", "train@2", "evaluate@2", "finish"}
    assert models(project)[:2] == before
    project.run("git", "checkout", "-q", "params.yaml", "dvc.yaml", "dvc.lock")
    project.run("dvc", "checkout", "-q")


def test_metrics_and_plots_show_curves_over_iterations(project: Project) -> None:
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))
    files = shown[""]["data"]
    assert set(files) == {f"runs/first/values/{name}.json" for name in ("base", "0", "1")}
    values = [files[f"runs/first/values/{n}.json"]["data"]["nll_per_token"] for n in ("base", "1")]
    assert values[1] < values[0]
    printed = project.run("dvc", "plots", "show", "--json")
    plots = json.loads(printed)["data"]
    assert set(plots) == {"loss", "nll_per_token"}
    points = plots["nll_per_token"][0]["content"]["data"]["values"]
    assert [point["iteration"] for point in points] == [-1, 0, 1]
    steps = plots["loss"][0]["content"]["data"]["values"]
    assert [point["step"] for point in steps] == list(range(1, len(steps) + 1))


def test_experiments_one_and_two_queued(project: Project) -> None:
    project.run("dvc", "exp", "run", "-n", "beta", "-S", "train.beta=0.3")
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")
    for name, margin in (("one", "0.5"), ("two", "0.7")):
        project.run("dvc", "exp", "run", "--queue", "-n", name, "-S", f"+gate.margin={margin}")
    project.run("dvc", "queue", "start", "--jobs", "1")
    project.run("dvc", "queue", "logs", "one", "--follow")
    project.run("dvc", "queue", "logs", "two", "--follow")
    (_, branch) = json.loads(project.run("dvc", "exp", "show", "--json"))  # Workspace, then HEAD.
    done = {exp["name"]: exp["revs"][0]["data"] for exp in branch["experiments"]}
    assert set(done) == {"beta", "one", "two"}
    params = {name: data["params"]["params.yaml"]["data"] for name, data in done.items()}
    assert params["beta"]["train"]["beta"] == 0.3
    assert (params["one"]["gate"]["margin"], params["two"]["gate"]["margin"]) == (0.5, 0.7)
    measured = {
        name: data["metrics"]["runs/first/values/1.json"]["data"]["nll_per_token"]
        for name, data in done.items()
    }
    assert measured["one"] == measured["two"] != measured["beta"]


def test_a_grid_is_one_experiment_a_combination(project: Project) -> None:
    settings = ("-S", "train.beta=0.1,0.3", "-S", "train.learning_rate=1e-6,3e-6")
    project.run("dvc", "exp", "run", "--queue", *settings)
    assert project.run("dvc", "queue", "status").count("Queued") == 4
    project.run("dvc", "queue", "remove", "--queued")


def test_new_data_runs_what_looks_at_it(project: Project) -> None:
    path = project.folder / "sample/annotated.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()  # DVC's cache is linked to it.
    path.write_bytes(b"".join(lines[:8]))
    project.run("dvc", "add", "-q", "sample/annotated.jsonl")
    ran = set(project.repro())
    assert ran == ALL - {"check", "heldout-proto", "evaluate-initial"}
    made = (project.folder / "runs/first/iter-1/synthetic.jsonl").read_bytes()
    assert len(made.splitlines()) == 8


def test_a_model_of_the_hub_is_watched_by_its_name(tmp_path: Path) -> None:
    project = Project.__new__(Project)
    project.folder = tmp_path / "project"
    project.run("tspin", "init", str(project.folder), cwd=tmp_path)
    project.change(model={"path": "org/name", "revision": "abc"})
    project.run("tspin", "dvc", "sync")
    named = json.loads((project.folder / "model.ref.json").read_bytes())
    assert named == {"model": "org/name", "revision": "abc"}
    assert "model.ref.json" in (project.folder / "dvc.yaml").read_text()
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    assert "proto" in project.run("dvc", "dag")
