"""Training logged by DVCLive, and only where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_runs import make_job, write_triplets

import tspin.tracking.trackers
from tspin.errors import InputError
from tspin.records.manifest import content_hash
from tspin.records.training_log import read_train_log
from tspin.train.step import run_job, train

pytestmark = pytest.mark.integration


def test_metrics_are_logged_and_the_model_is_the_same(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_triplets(tmp_path / "triplets.jsonl")
    logged = make_job(tmp_path, tiny_model_dir, "logged", system={"report_to": ["dvclive"]})
    plain = make_job(tmp_path, tiny_model_dir, "plain")
    run_job(logged)
    run_job(plain)
    assert content_hash(logged.out) == content_hash(plain.out)
    live = logged.out.parent / "dvclive"
    assert len((live / "plots/metrics/loss.tsv").read_text().splitlines()) == 6 + 1
    last = read_train_log(logged.out.parent / "train_log.jsonl")[-1]
    shown = json.loads((live / "metrics.json").read_bytes())
    assert shown["learning_rate"] == pytest.approx(last["learning_rate"])
    assert not (plain.out.parent / "dvclive").exists()
    assert not (tmp_path / "dvclive").exists()


def test_without_dvclive_the_message_says_so(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_triplets(tmp_path / "triplets.jsonl")
    monkeypatch.setattr(tspin.tracking.trackers, "find_spec", lambda _: None)
    job = make_job(tmp_path, tiny_model_dir, system={"report_to": ["dvclive"]})
    with pytest.raises(InputError, match=r"dvclive', which is not installed"):
        train(
            job.config, model=job.model, triplets=job.triplets, iteration=job.iteration, out=job.out
        )
    assert not job.out.exists()
