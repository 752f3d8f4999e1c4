"""Samples that get worse while greedy answers hold, from metrics made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import make_run

from tspin.records.estimate import Estimate
from tspin.report.overview import warnings
from tspin.runs.drops import sampled_drops
from tspin.runs.history import read_history


def policy(greedy: float, sampled: float, reach: float = 0.02) -> dict[str, Estimate]:
    modes = {"greedy": greedy, "sampled": sampled}
    return {
        f"exact_match/exact/{mode}": Estimate(value, value - reach, value + reach, 500)
        for mode, value in modes.items()
    }


def test_a_fall_of_samples_alone_is_told_with_its_figures() -> None:
    [told] = sampled_drops([policy(0.5, 0.3), policy(0.9, 0.6), policy(0.9, 0.4)], 0.1)
    assert "(exact) has fallen from 60.0% to 40.0% while greedy went from 90.0% to 90.0%" in told


@pytest.mark.parametrize(
    "played",
    [
        pytest.param([policy(0.9, 0.6), policy(0.9, 0.52)], id="within the threshold"),
        pytest.param([policy(0.9, 0.6), policy(0.75, 0.4)], id="greedy falls as well"),
        pytest.param([policy(0.9, 0.6, 0.2), policy(0.9, 0.4, 0.2)], id="too few records"),
        pytest.param([policy(0.9, 0.4), policy(0.9, 0.6)], id="a rise"),
        pytest.param([policy(0.9, 0.6)], id="nothing before"),
        pytest.param([], id="nothing"),
    ],
)
def test_what_is_no_such_fall_is_not_told(played: list[dict[str, Estimate]]) -> None:
    assert sampled_drops(played, 0.1) == []


def test_the_report_warns_of_the_iteration(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for folder, sampled in (("base", 0.1), ("iter-0", 0.9), ("iter-1", 0.9), ("iter-2", 0.3)):
        path = run / folder / "metrics.json"
        made = json.loads(path.read_bytes())
        values = {name: each.as_json() for name, each in policy(0.9, sampled).items()}
        path.write_text(json.dumps({**made, "metrics": {**made["metrics"], **values}}))
    told = [text for text in warnings(read_history(run, samples=1)) if "sampled" in text]
    assert len(told) == 1
    assert told[0].startswith("Iteration 2: sampled exactness (exact) has fallen from 90.0%")
