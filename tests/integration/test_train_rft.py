"""Rejection sampling fine-tuning is supervised fine-tuning on annotations and right answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import make_job

from tspin.records.manifest import read_manifest
from tspin.records.records import (
    AnnotatedRecord,
    FurtherSample,
    Message,
    Triplet,
    write_records,
)
from tspin.records.training_log import read_train_log
from tspin.train.step import run_job

pytestmark = pytest.mark.integration


def prompt(number: int) -> list[Message]:
    return [Message(role="user", content=f"What is {number}?")]


def triplet(number: int, *said: str) -> Triplet:
    first, *further = said
    return Triplet(
        id=f"record-{number}",
        messages=prompt(number),
        annotated=f"the answer is {number}",
        synthetic=first,
        proto_synthetic="a",
        further_synthetic=[FurtherSample(response=text) for text in further] or None,
    )


def test_it_is_sft_on_annotations_and_right_answers(tmp_path: Path, tiny_model_dir: Path) -> None:
    write_records(
        tmp_path / "triplets.jsonl",
        [
            triplet(12, "12", "So 34", "apples are 12", "12"),
            triplet(34, "a city", "46"),
            triplet(46, "So 46"),
        ],
    )
    pairs = [
        (12, "the answer is 12"),
        (12, "12"),
        (12, "apples are 12"),
        (34, "the answer is 34"),
        (46, "the answer is 46"),
        (46, "So 46"),
    ]
    write_records(
        tmp_path / "pairs.jsonl",
        [
            AnnotatedRecord(id=str(at), messages=prompt(number), response=text)
            for at, (number, text) in enumerate(pairs)
        ],
    )
    rft = make_job(
        tmp_path, tiny_model_dir, "rft", method="rft", rft_extractor="last_number", rft_cap=2
    )
    sft = make_job(tmp_path, tiny_model_dir, "sft", method="sft", triplets=tmp_path / "pairs.jsonl")
    for job in (rft, sft):
        run_job(job)
    logs = [read_train_log(job.out.parent / "train_log.jsonl") for job in (rft, sft)]
    assert logs[0] == logs[1]
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (rft, sft))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    made, other = read_manifest(rft.out), read_manifest(sft.out)
    assert made is not None
    assert other is not None
    assert (made.counts["triplets"], made.counts["right_answers"]) == (6, 3)
    assert made.parameters["rft_cap"] == 2
    # What was trained before there was such a method is still current.
    assert not {"rft_cap", "rft_extractor"} & other.parameters.keys()


def test_without_a_right_answer_it_trains_on_annotations_and_says_so(
    tmp_path: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_records(tmp_path / "triplets.jsonl", [triplet(12, "34"), triplet(34, "a", "is")])
    job = make_job(
        tmp_path, tiny_model_dir, "none", method="rft", rft_extractor="last_number", epochs=4
    )
    run_job(job)
    assert "finds the annotated answer in no new response of the policy" in caplog.text
    manifest = read_manifest(job.out)
    assert manifest is not None
    assert (manifest.counts["triplets"], manifest.counts["right_answers"]) == (2, 0)
