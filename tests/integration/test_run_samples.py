"""A whole run with several responses to each prompt, killed in a generation and in a training."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from whole_runs import Project

from tspin.records.records import Response, Triplet, read_records
from tspin.records.training_log import read_train_log

pytestmark = [pytest.mark.integration, pytest.mark.long]

SAMPLES = ("--set", "generate.samples=3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("samples") / "whole", tiny_model_dir)
    code, _, errors = project.run(*SAMPLES)
    assert code == 0, errors
    return project


def counts(path: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(Path(f"{path}.manifest.json").read_bytes())["counts"]
    return found


def test_every_prompt_has_its_samples_and_one_y0(finished: Project) -> None:
    run = finished.run_dir
    for name in ("proto.jsonl", "iter-0/synthetic.jsonl", "iter-1/synthetic.jsonl"):
        responses = list(read_records(run / name, Response))
        assert set(Counter(response.id for response in responses).values()) == {3}
        assert len({response.seed for response in responses}) == counts(run / name)["records"] == 36
    heldout = list(read_records(run / "heldout_proto.jsonl", Response))
    assert [response.sample for response in heldout] == [0] * 6
    first = {r.id: r.response for r in read_records(run / "proto.jsonl", Response) if not r.sample}
    for triplet in read_records(run / "iter-1/triplets.jsonl", Triplet):
        assert triplet.proto_synthetic == first[triplet.id]
        assert len(triplet.further_synthetic or ()) == 2
    # Evaluations draw one response, and stay current whatever is trained on.
    metrics = json.loads((run / "iter-1/metrics.json.manifest.json").read_bytes())
    assert "samples" not in metrics["parameters"]["generate"]
    # A step has so many prompts as ever: 12, 4 a step.
    assert counts(run / "iter-1/model")["triplets"] == 12
    assert len(read_train_log(run / "iter-1/train_log.jsonl")) == 3


def test_a_run_killed_in_a_generation_and_a_training_ends_with_the_same_bytes(
    finished: Project, tmp_path: Path, tiny_model_dir: Path
) -> None:
    killed = Project(tmp_path / "killed", tiny_model_dir)
    killed.kill_when(".proto.jsonl.partial*", "proto.jsonl", options=SAMPLES)
    killed.kill_when("iter-0/model.checkpoints/checkpoint-*", "iter-0/model", options=SAMPLES)
    killed.kill_when("iter-1/.synthetic.jsonl.partial*", "iter-1/model", options=SAMPLES)
    code, _, errors = killed.run(*SAMPLES)
    assert code == 0, errors
    assert killed.outputs() == finished.outputs()


def test_a_run_on_right_answers(tmp_path: Path, tiny_model_dir: Path) -> None:
    project = Project(tmp_path / "rft", tiny_model_dir)
    method = ("--set", "train.method=rft", "--set", "train.rft_extractor=exact")
    code, _, errors = project.run(*SAMPLES, *method)
    assert code == 0, errors
    run = project.run_dir
    # Right by this extractor is only the annotation word for word, which is no new example.
    assert "this trains on the annotations alone" in errors
    found = counts(run / "iter-1/model")
    assert (found["triplets"], found["right_answers"]) == (12, 0)
    assert counts(run / "iter-1/synthetic.jsonl")["records"] == 36


def test_a_run_with_a_teacher(tmp_path: Path, tiny_model_dir: Path) -> None:
    project = Project(tmp_path / "sdft", tiny_model_dir)
    method = ("--set", "train.method=sdft", "--set", "iterations=1")
    method += ("--set", "train.sdft_template=So {prompt} {demonstration}")
    code, _, errors = project.run(*SAMPLES, *method)
    assert code == 0, errors
    run = project.run_dir
    assert counts(run / "iter-0/model")["triplets"] == 12
    losses = [row["loss"] for row in read_train_log(run / "iter-0/train_log.jsonl")]
    assert len(losses) == 3
    assert all(loss > 0 for loss in losses)
    assert "Self-distillation fine-tuning" in (run / "report.html").read_text()
