"""The benchmark of many annotated pairs, with few."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale import prepare, shown, stages

pytestmark = [pytest.mark.integration, pytest.mark.bench]


def test_every_stage_of_a_run_is_measured(tmp_path: Path) -> None:
    pairs = 1100  # Two steps: with one, the schedule would leave the policy where it is.
    prepare(tmp_path, pairs, iterations=2)
    told: list[str] = []
    found = stages(tmp_path, lambda name, _: told.append(name), iterations=2)
    assert [*found] == ["import", "generate", "build-triplets", "train", "finish", "report"]
    assert told.count("train") == told.count("generate") == 2
    assert all(taken.wall > 0 and taken.cpu > 0 and taken.peak > 10 for taken in found.values())
    # Its own memory: the process that starts it has torch, this one needs none.
    assert found["import"].peak < 300
    last = tmp_path / "runs/scale/iter-1"
    assert len((last / "triplets.jsonl").read_text().splitlines()) == pairs
    assert (tmp_path / "runs/scale/report.html").is_file()
    table = shown({pairs: found, 2 * pairs: found}).splitlines()
    assert table[0].startswith("| stage | 2,200 pairs: CPU seconds | share ")
    assert len(table) == 2 + len(found)
