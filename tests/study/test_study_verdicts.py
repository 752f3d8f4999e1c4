"""The study's verdicts, its Markdown, and what its guards would have told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from study.arms import CONTROL, TSPIN
from study.protocol import PILOT, Cell
from study.results import Results
from study.signs import alarm, collect_signs, run_signs
from study.stages import Study
from study.tables import as_markdown
from study.verdicts import PLAIN, SPIN, paired, verdicts
from tests.study.study_runs import make_runs
from tspin.runs.folder import BASE, RunFolder

pytestmark = pytest.mark.study


def words(rows: list[dict[str, Any]]) -> list[str]:
    return [verdict.word for verdict in verdicts(rows, [])]


def test_verdicts_follow_from_the_rows() -> None:
    yes = "confirmed"
    assert words(make_runs()) == [yes, yes, yes, yes, "not run", yes]
    lower = words(make_runs(tspin_test=0.5))
    assert lower[1] == "contradicted"
    assert lower[5] == "not confirmed"  # Worse in what is taught, better in what is kept.
    assert words(make_runs(spin_last=0.9))[0] == "not confirmed"
    assert words([]) == ["not run"] * 6


def test_differences_pair_seeds_and_need_two() -> None:
    rows = make_runs()
    difference = paired(rows, TSPIN, PLAIN, lambda row: row["test"]["best"]["annotated/greedy"])
    assert difference is not None
    assert (difference.value, difference.n) == (pytest.approx(0.31), 3)
    assert paired(rows[:5], TSPIN, PLAIN, lambda row: 0.0) is None


def test_the_markdown_holds_every_method_and_verdict() -> None:
    text = as_markdown(Results({}, runs=make_runs()))
    assert text.count("**confirmed**") == 5
    for arm in (TSPIN, PLAIN, SPIN, CONTROL, "sft"):
        assert f"| {arm} |" in text
    assert "xychart-beta" in text


def write_run(run: RunFolder) -> None:
    for number, greedy in ((BASE, 0.5), (0, 0.3), (1, 0.48)):
        iteration = run.iteration(number)
        iteration.path.mkdir(parents=True)
        values = {"exact_match/exact/greedy": greedy, "exact_match/exact/sampled": 0.1}
        metrics = {
            name: {"value": value} for name, value in {**values, "nll_per_token": 1.0}.items()
        }
        iteration.metrics.write_text(json.dumps({"metrics": metrics}))
        row = {"step": 1, "logps/annotated": -4.0, "lengths/annotated": 4.0}
        (iteration.path / "train_log.jsonl").write_text(json.dumps(row) + "\n")
    (run.path / "config.json").write_text("{}")


def test_what_falls_below_the_initial_policy_is_damage(tmp_path: Path) -> None:
    write_run(RunFolder(tmp_path / "final/seed-0/sft"))
    signs = list(run_signs(tmp_path / "final"))
    assert [(row["iteration"], row["worse"]) for row in signs] == [(0, True), (1, False)]


def test_a_seed_that_is_being_added_is_none_of_the_results_yet(tmp_path: Path) -> None:
    study, cell = Study(tmp_path, PILOT), Cell("sums", "weak")
    final = study.final(cell)
    write_run(RunFolder(final / "seed-0/sft"))
    write_run(RunFolder(final / "seed-1/sft"))
    (final / "seed-2/sft").mkdir(parents=True)  # Killed before its base was evaluated.
    (final / "seed-2/sft/config.json").write_text("{}")
    arm = {"name": "sft", "method": "sft", "share": 1.0, "matched": False, "runs": [{"seed": 0}]}
    (final / "compare.json").write_text(json.dumps({"arms": [arm]}))
    assert [row["seed"] for row in collect_signs(study, cell)] == [0, 0]


def test_a_threshold_is_judged_by_what_became_of_the_policy() -> None:
    values = [(True, 0.9), (True, 0.3), (False, 0.6), (False, 0.1), (False, 0.2), (True, None)]
    rows = [{"worse": worse, "saturated_share": share} for worse, share in values]
    counts = alarm(rows, "saturated_share", 0.5)
    assert (counts.caught, counts.damaged) == (1, 2)
    assert (counts.false, counts.sound) == (1, 3)
