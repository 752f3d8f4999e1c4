"""The benchmark of what a run takes besides its work, on one short iteration."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.overhead import REST, WAYS, shown, spent

pytestmark = [pytest.mark.integration, pytest.mark.bench]

SHORT = [
    "iterations=1",
    "generate.max_new_tokens=8",
    "evaluate.tasks=[]",
    "evaluate.max_records=16",
    "gate.metric=nll_per_token",
    "gate.direction=min",
]


@pytest.mark.parametrize("way", WAYS)
def test_all_of_the_wall_time_is_accounted_for(way: str, tmp_path: Path) -> None:
    phases = spent(WAYS[way], tmp_path, SHORT)
    assert {"generating", "training", "evaluating", "loading", "checks", REST} <= {*phases}
    assert all(seconds >= 0 for seconds in phases.values()), phases
    assert phases["training"] > 0
    (row,) = shown({way: phases}).splitlines()[2:]
    assert row.startswith(f"| {way} | ")
