"""A whole run of tspin_all: triplets of all policies, in one command and step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
from whole_runs import Project, started

from tspin.records.manifest import content_hash, read_manifest
from tspin.records.records import Response, Triplet, read_records

pytestmark = [pytest.mark.integration, pytest.mark.long]

ALL = ("--set", "train.method=tspin_all", "--set", "iterations=4")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("all") / "whole", tiny_model_dir)
    code, _, errors = project.run(*ALL)
    assert code == 0, errors
    return project


def texts(path: Path) -> dict[str, str]:
    return {response.id: response.response for response in read_records(path, Response)}


def test_each_triplet_has_a_response_of_every_policy(finished: Project) -> None:
    played = [texts(finished.run_dir / f"iter-{t}/synthetic.jsonl") for t in range(4)]
    for t in range(4):
        for triplet in read_records(finished.run_dir / f"iter-{t}/triplets.jsonl", Triplet):
            between = [one.response for one in triplet.earlier_synthetic or ()]
            shown = [triplet.proto_synthetic, *between, triplet.synthetic]
            assert shown == [played[at][triplet.id] for at in (0, *range(1, t), t)]


def test_as_long_as_no_policy_is_between_the_models_are_those_of_tspin(
    finished: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    tspin = Project(tmp_path / "tspin", tiny_model_dir)
    code, _, errors = tspin.run("--set", "iterations=3")
    assert code == 0, errors
    same = [
        content_hash(tspin.run_dir / f"iter-{t}/model")
        == content_hash(finished.run_dir / f"iter-{t}/model")
        for t in range(3)
    ]
    assert same == [True, True, False]


def test_a_killed_run_ends_with_the_same_bytes(
    finished: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    killed = Project(tmp_path / "killed", tiny_model_dir)
    killed.kill_when("iter-2/model.checkpoints/checkpoint-*", "iter-3", options=ALL)
    code, _, errors = killed.run(*ALL)
    assert code == 0, errors
    assert killed.outputs() == finished.outputs()


def test_step_by_step_the_triplets_are_the_same(finished: Project) -> None:
    run, out = "runs/r", finished.folder / "triplets.jsonl"
    sources = ["--annotated", "annotated.jsonl", "--proto", f"{run}/proto.jsonl"]
    sources += ["--synthetic", f"{run}/iter-3/synthetic.jsonl", "--out", out.name]
    common = ["--config", "run.yaml", *ALL]
    without = started(finished.folder, "build-triplets", *sources, *common)
    assert without.communicate()[1] == ""
    training = ["train", "--model", f"{run}/iter-2/model", "--triplets", out.name]
    refused = started(finished.folder, *training, "--out", "model", "--iteration", "3", *common)
    errors = refused.communicate()[1]
    assert refused.returncode == 2
    assert "has 0 responses in 'earlier_synthetic'; method 'tspin_all' needs 2" in errors
    earlier = [f"--earlier={run}/iter-{t}/synthetic.jsonl" for t in (1, 2)]
    joined = started(finished.folder, "build-triplets", *sources, *earlier, *common, "--overwrite")
    assert joined.communicate()[1] == ""
    made, other = read_manifest(out), read_manifest(finished.run_dir / "iter-3/triplets.jsonl")
    assert made == other
