"""What is read from a run folder: samples, verdicts, and damage that is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made_runs import make_run

from tspin.errors import InputError
from tspin.records.manifest import Manifest, write_manifest
from tspin.records.records import Response, write_records
from tspin.report.figures import running_mean
from tspin.report.overview import facts, state, verdict
from tspin.report.page import write_report
from tspin.runs.history import InVain, read_history


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "words")


def test_samples_are_chosen_by_their_ids_alone(run: Path) -> None:
    """The six of record-0 to record-11 with the lowest BLAKE2b; the same on every machine."""
    chosen = read_history(run, samples=6).training_samples
    shells = [int(sample.messages[0].content.split()[2]) for sample in chosen]
    assert [number - 7 for number in shells] == [1, 11, 0, 5, 8, 4]


def test_held_out_answers_stand_in_the_order_of_the_iterations(run: Path) -> None:
    sample = read_history(run, samples=6).heldout_samples[0]
    titles = [shown.title for shown in sample.responses]
    assert titles == [
        "y, the annotation",
        "base",
        "after iteration 0",
        "after iteration 1",
        "after iteration 2",
    ]
    assert [shown.text[:10] for shown in sample.responses[1:]] == [
        "Answer -1:",
        "Answer 0: ",
        "Answer 1: ",
        "Answer 2: ",
    ]


def test_no_iteration_beat_the_base(tmp_path: Path) -> None:
    run = make_run(tmp_path / "flat", iterations=1, planned=1)
    best = json.loads((run / "best.json").read_bytes())
    (run / "best.json").write_text(json.dumps({**best, "iteration": -1, "model": None, "value": 0}))
    text = verdict(read_history(run, samples=1))
    assert text.startswith("No iteration beat the model that the run began with.")
    assert "0.0% (0.0 to 1.2)" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json: no such file; expected a run folder"),
        ("config.json", "{}", "config.json: not the configuration of a run"),
        ("best.json", "nonsense", "best.json: not valid JSON"),
        ("iter-0/metrics.json", '{"metrics": {"a": 1}}', "not the metrics of an evaluation"),
        ("iter-0/train_log.jsonl", "nonsense\n", "train_log.jsonl:1: not a JSON object"),
        ("iter-0/model.manifest.json", "{}", "model.manifest.json: not a manifest"),
        ("iter-0/triplets.jsonl", "{}\n", r"triplets.jsonl:1: field 'id' is missing"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    run = make_run(tmp_path / "run", iterations=1)
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(InputError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/config.json: no such file"):
        write_report(tmp_path / "nowhere")


def test_running_means_skip_what_is_missing() -> None:
    assert running_mean([1.0, 3.0, None, 5.0], 2) == [1.0, 2.0, 3.0, 5.0]
    assert running_mean([None, 2.0], 1) == [None, 2.0]


def test_an_iteration_that_began_in_vain_is_told_and_counts_for_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", iterations=2, stopped="iteration 1 is worse")
    before = read_history(run, samples=0)
    begun = run / "iter-2/synthetic.jsonl"
    begun.parent.mkdir()
    answers = (
        Response(id=str(i), response="x", finish_reason="stop", prompt_tokens=4, seed=i,
                 response_tokens=1000 + i)
        for i in range(3)
    )  # fmt: skip
    write_records(begun, answers)
    assert read_history(run, samples=0).in_vain is None  # It is not finished.
    write_manifest(begun, Manifest(kind="responses", iteration=2))
    history = read_history(run, samples=0)
    assert history.in_vain == InVain(2, responses=3, tokens=3003)
    assert history.played == before.played
    assert state(history) == (
        "Stopped early: iteration 1 is worse. Iteration 2 had begun, and its generation "
        "(3 responses, 3,003 tokens) was in vain."
    )
    elsewhere = shutil.move(begun.parent, tmp_path / "elsewhere") / begun.name
    assert read_history(run, samples=0).in_vain is None
    assert read_history(run, samples=0, begun=elsewhere).in_vain == history.in_vain


def test_what_goes_on_is_not_in_vain(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", iterations=2)
    begun = run / "iter-2/synthetic.jsonl"
    begun.parent.mkdir()
    write_records(begun, [])
    write_manifest(begun, Manifest(kind="responses", iteration=2))
    history = read_history(run, samples=0)
    assert history.in_vain is None
    assert [played.number for played in history.played] == [-1, 0, 1, 2]


def test_tasks_are_told_with_their_shots_and_versions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "tasks", iterations=1, planned=1)
    path = run / "iter-0/metrics.json"
    found = json.loads(path.read_bytes())
    score = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 100}
    found["metrics"]["lm_eval/mmlu/acc"] = score
    tasks = {
        "mmlu": {"version": "2", "num_fewshot": 5},
        "mmlu_law": {"version": "1.0", "num_fewshot": 5},
    }
    path.write_text(json.dumps({**found, "lm_eval": {"version": "0.4.13", "tasks": tasks}}))
    history = read_history(run, samples=0)
    told = dict(facts(history))["Tasks"]
    assert told == "lm-eval 0.4.13: mmlu (5-shot, version 2)"
    page = write_report(run).read_text()
    assert told in page
    assert "lm-eval, mmlu, acc" in page
