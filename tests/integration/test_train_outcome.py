"""What the train step refuses, warns of, and leaves behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from training_runs import asked_of, make_job, write_triplets

from tspin.errors import InputError, TspinError
from tspin.processes.launch import StoppedError
from tspin.records.manifest import Manifest, content_hash, read_manifest, write_manifest
from tspin.records.records import AnnotatedRecord, Triplet, read_records, write_records
from tspin.records.training_log import read_train_log
from tspin.train.job import TrainJob
from tspin.train.step import run_job, train
from tspin.train.trainer import TSPINTrainer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("train")
    write_triplets(made / "triplets.jsonl")
    return made


def log_of(job: TrainJob) -> list[dict[str, Any]]:
    return read_train_log(job.out.parent / "train_log.jsonl")


def test_manifest_and_what_is_left(folder: Path, tiny_model_dir: Path) -> None:
    job = make_job(folder, tiny_model_dir, "manifest", learning_rate=[1e-3, 1e-4])
    manifest = run_job(job)
    assert manifest == read_manifest(job.out)
    assert manifest.inputs == {"triplets": content_hash(job.triplets)}
    assert manifest.model == content_hash(tiny_model_dir)
    assert (manifest.kind, manifest.iteration, manifest.seed) == ("model", 1, 0)
    assert manifest.parameters["learning_rate"] == 1e-4
    assert manifest.counts["triplets"] == 11
    assert manifest.counts["steps"] == 6
    left = sorted(path.name for path in job.out.parent.iterdir())
    assert left == [".model.seconds.json", "model", "model.manifest.json", "train_log.jsonl"]
    kept = {path.suffix for path in job.out.iterdir()}
    assert kept <= {".json", ".safetensors", ".jinja"}
    assert json.loads((job.out / "config.json").read_bytes())["use_cache"] is True

    (job.out.parent / "train_log.jsonl").unlink()
    assert run_job(job) == manifest  # at once: no log is written
    assert not (job.out.parent / "train_log.jsonl").exists()


def test_a_signal_after_the_last_step_ends_what_comes_next(
    folder: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(folder, tiny_model_dir, "late")
    whole = TSPINTrainer.train

    def and_then_a_signal(trainer: TSPINTrainer, **given: Any) -> Any:
        outcome = whole(trainer, **given)
        os.kill(os.getpid(), signal.SIGTERM)
        return outcome

    monkeypatch.setattr(TSPINTrainer, "train", and_then_a_signal)
    with pytest.raises(StoppedError, match="when the training was over"):
        run_job(job)
    monkeypatch.undo()
    before = content_hash(job.out)
    manifest = run_job(job)
    assert manifest.sha256 == before == content_hash(job.out)
    assert not list(job.out.parent.glob("*.checkpoints"))


def test_sft_reads_annotated_records(folder: Path, tiny_model_dir: Path) -> None:
    annotated = folder / "annotated.jsonl"
    pairs = (
        AnnotatedRecord(id=record.id, messages=record.messages, response=record.annotated)
        for record in read_records(folder / "triplets.jsonl", Triplet)
    )
    write_records(annotated, pairs)
    one = make_job(folder, tiny_model_dir, "sft-annotated", method="sft", triplets=annotated)
    two = make_job(folder, tiny_model_dir, "sft-triplets", method="sft")
    assert run_job(one).inputs == {"annotated": content_hash(annotated)}
    run_job(two)
    assert content_hash(one.out) == content_hash(two.out)


def test_loss_that_cannot_decrease_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    same = write_triplets(tmp_path / "same.jsonl", annotated="So 46.", synthetic="So 46.")
    for method in ("tspin_no_history", "spin"):
        job = make_job(tmp_path, tiny_model_dir, triplets=same, method=method)
        with pytest.raises(InputError, match="cannot decrease"):
            run_job(job)
        assert not job.out.parent.exists()
    run_job(make_job(tmp_path, tiny_model_dir, triplets=same, method="tspin"))  # y0 still teaches


def test_not_finite_loss_names_step_and_records(folder: Path, tiny_model_dir: Path) -> None:
    job = make_job(folder, tiny_model_dir, "nan", link="exponential", alpha=1000.0)
    with pytest.raises(TspinError, match=r"the loss is inf at step 1; records: .*record-\d"):
        run_job(job)
    assert not job.out.exists()


def test_inputs_that_do_not_belong_together(tmp_path: Path, tiny_model_dir: Path) -> None:
    triplets = write_triplets(tmp_path / "triplets.jsonl")
    identity = content_hash(tiny_model_dir)
    for wrong, message in (
        ({"template": "0" * 64}, "prompt template differs"),
        ({"model": "0" * 64}, "synthetic responses must come from"),
        ({"iteration": 3}, "iteration differs"),
    ):
        manifest = Manifest(kind="triplets", model=identity).model_copy(update=wrong)
        write_manifest(triplets, manifest)
        with pytest.raises(InputError, match=message):
            run_job(make_job(tmp_path, tiny_model_dir, triplets=triplets))

    inputs = {"annotated": "a" * 64, "proto_synthetic": "b" * 64}
    write_manifest(triplets, Manifest(kind="triplets", model=identity, inputs=inputs))
    first = make_job(tmp_path, tiny_model_dir, "first", triplets=triplets)
    made = run_job(first)
    assert made.inputs == inputs | {"triplets": content_hash(triplets)}
    other = Manifest(kind="triplets", inputs=inputs | {"proto_synthetic": "c" * 64})
    write_manifest(triplets, other)
    second = make_job(tmp_path, tiny_model_dir, "second", triplets=triplets)
    with pytest.raises(InputError, match="'proto_synthetic' input differs"):
        run_job(second.model_copy(update={"model": str(first.out)}))


def test_over_long_records(tmp_path: Path, tiny_model_dir: Path) -> None:
    triplets = write_triplets(tmp_path / "triplets.jsonl", count=4)
    records = list(read_records(triplets, Triplet))
    long = records[2].model_copy(update={"synthetic": "apples " * 90})
    write_records(triplets, [*records[:2], long, records[3]])
    with pytest.raises(InputError, match=r"triplets.jsonl:3: record 'record-2' .*'synthetic'"):
        run_job(make_job(tmp_path, tiny_model_dir))
    manifest = run_job(make_job(tmp_path, tiny_model_dir, prompt={"over_long": "drop"}))
    assert manifest.counts["over_long"] == 1
    assert manifest.dropped_ids == {"over_long": ["record-2"]}
    assert manifest.counts["triplets"] == 3


def test_warnings_reach_log_and_manifest(tmp_path: Path, tiny_model_dir: Path) -> None:
    long = "apples cities answer Paris Athens " * 3
    write_triplets(tmp_path / "triplets.jsonl", synthetic=long)
    job = make_job(
        tmp_path, tiny_model_dir, learning_rate=5e-3, epochs=6, guards={"annotated_logps_drop": 0.1}
    )
    manifest = run_job(job)
    warned = [text for row in log_of(job) for text in row.get("warnings", [])]
    assert any("length_drift" in text for text in warned)
    assert any("saturated_share" in text for text in warned)
    assert len(warned) == len({text.rpartition("[")[2] for text in warned})  # once a kind
    assert manifest.counts["past_length_drift"] == 1
    assert manifest.counts["past_saturated_share"] >= 1


def test_checkpoints_of_other_work_are_not_resumed(
    folder: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(folder, tiny_model_dir, "other-key")
    broken = job.checkpoints / "checkpoint-2"
    broken.mkdir(parents=True)
    (broken / "complete.json").write_text('{"step": 2}')
    (job.checkpoints / "key.json").write_text('{"other": "work"}')
    run_job(job)  # would fail on the empty folder
    assert "removing checkpoints of another training" in caplog.text
    assert len(log_of(job)) == 6


def test_checkpoints_that_a_kill_left_behind_a_finished_training_go_at_the_next_call(
    folder: Path, tiny_model_dir: Path
) -> None:
    job = make_job(folder, tiny_model_dir, "left-behind")
    kept = folder / "kept.json"

    def keep(*_: Any) -> None:
        kept.write_bytes((job.checkpoints / "key.json").read_bytes())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tspin.checkpoints.folder.Checkpoints.remove", keep)
        train(**asked_of(job))  # As if it was killed before it could delete them.
    (job.checkpoints / "checkpoint-1").mkdir(exist_ok=True)
    before = content_hash(job.out)
    (job.checkpoints / "key.json").write_text('{"other": "work"}')
    train(**asked_of(job))
    assert (job.checkpoints / "checkpoint-1").is_dir()
    (job.checkpoints / "key.json").write_bytes(kept.read_bytes())
    train(**asked_of(job))
    assert not job.checkpoints.exists()
    assert content_hash(job.out) == before


def test_a_message_names_the_missing_file(tmp_path: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(InputError, match=r"triplets.jsonl: no such file"):
        run_job(make_job(tmp_path, tiny_model_dir))


def test_equal_seeds_equal_bytes(folder: Path, tiny_model_dir: Path) -> None:
    jobs = [make_job(folder, tiny_model_dir, name) for name in ("seed-a", "seed-b")]
    jobs.append(make_job(folder, tiny_model_dir, "seed-c", seed=1))
    same, again, other = (run_job(job) for job in jobs)
    assert same == again
    assert same.sha256 != other.sha256
    paths = [job.out.parent / "train_log.jsonl" for job in jobs]
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


def test_gradient_checkpointing_changes_only_rounding(folder: Path, tiny_model_dir: Path) -> None:
    plain = make_job(folder, tiny_model_dir, "plain")
    saving = make_job(folder, tiny_model_dir, "saving", system={"gradient_checkpointing": True})
    for job in (plain, saving):
        run_job(job)
    for ours, theirs in zip(log_of(plain), log_of(saving), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
