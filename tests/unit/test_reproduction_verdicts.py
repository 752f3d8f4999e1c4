"""The study's verdicts, its Markdown, and what its guards would have told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reproduction.claims import PLAIN, SPIN, verdicts
from benchmarks.reproduction.judging import paired
from benchmarks.reproduction.markdown import as_markdown
from benchmarks.reproduction.protocol import CONTROL, TSPIN
from benchmarks.reproduction.signs import alarm, collect_signs
from tests.made_study import make_rows
from tspin.runs.folder import BASE, RunFolder


def words(rows: list[dict[str, Any]]) -> list[str]:
    return [each.word for each in verdicts(rows, [])]


def test_verdicts_follow_from_the_rows() -> None:
    yes = "confirmed"
    assert words(make_rows()) == [yes, yes, yes, yes, "not run", yes]
    found = words(make_rows(tspin_test=0.5))
    assert found[1] == "contradicted"
    assert found[5] == "not confirmed"  # Worse in what is taught, better in what is kept.
    assert words(make_rows(spin_last=0.9))[0] == "not confirmed"
    assert words([]) == ["not run"] * 6


def test_differences_pair_seeds_and_need_two() -> None:
    rows = make_rows()
    found = paired(rows, TSPIN, PLAIN, lambda row: row["test"]["best"]["annotated/greedy"])
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(0.31), 3)
    assert paired(rows[:5], TSPIN, PLAIN, lambda row: 0.0) is None


def test_the_markdown_holds_every_method_and_verdict() -> None:
    from dataclasses import asdict

    rows = make_rows()
    result = {
        "protocol": {},
        "rows": rows,
        "verdicts": [asdict(each) for each in verdicts(rows, [])],
    }
    text = as_markdown(result)
    assert text.count("**confirmed**") == 5
    for arm in (TSPIN, PLAIN, SPIN, CONTROL, "sft"):
        assert f"| {arm} |" in text
    assert "xychart-beta" in text


def test_what_falls_below_the_initial_policy_is_damage(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "final/seed-0/sft")
    for number, greedy in ((BASE, 0.5), (0, 0.3), (1, 0.48)):
        made = run.iteration(number)
        made.path.mkdir(parents=True)
        values = {"exact_match/exact/greedy": greedy, "exact_match/exact/sampled": 0.1}
        metrics = {
            name: {"value": value} for name, value in {**values, "nll_per_token": 1.0}.items()
        }
        made.metrics.write_text(json.dumps({"metrics": metrics}))
        row = {"step": 1, "logps/annotated": -4.0, "lengths/annotated": 4.0}
        (made.path / "train_log.jsonl").write_text(json.dumps(row) + "\n")
    (run.path / "config.json").write_text("{}")
    signs = list(collect_signs(tmp_path / "final", tmp_path))
    assert [(row["iteration"], row["worse"]) for row in signs] == [(0, True), (1, False)]


def test_a_threshold_is_judged_by_what_became_of_the_policy() -> None:
    values = [(True, 0.9), (True, 0.3), (False, 0.6), (False, 0.1), (False, 0.2), (True, None)]
    rows = [{"worse": worse, "saturated_share": share} for worse, share in values]
    found = alarm(rows, "saturated_share", 0.5)
    assert (found.caught, found.damaged) == (1, 2)
    assert (found.false, found.sound) == (1, 3)
