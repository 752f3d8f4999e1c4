"""The study from data to verdicts on a tiny base: every stage, through the project's commands."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import benchmarks.reproduction.__main__ as command
import benchmarks.reproduction.study as study_module
from benchmarks.reproduction import bases
from benchmarks.reproduction.protocol import ARMS, PILOT, PROTOCOLS

pytestmark = pytest.mark.integration

TINY = dataclasses.replace(
    PILOT,
    annotated=16,
    validation=4,
    test=4,
    skipped_tests=2,
    iterations=2,
    epochs=1,
    global_batch_size=2,
    learning_rates=(1e-3,),
    sensitive_base="weak",
)


def test_the_study_runs_to_its_verdicts_and_continues(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "pilot", TINY)
    monkeypatch.setattr(study_module, "SETTINGS", {"alpha-0.1": {"alpha": 0.1}})
    monkeypatch.setattr("benchmarks.reproduction.rows.SETTINGS", {"alpha-0.1": {}})
    base = bases.base_folder(tmp_path, "weak", "sums")
    shutil.copytree(tiny_model_dir, base)
    (base / bases.RECORD).write_text("{}")

    command.main(tmp_path, ["sums/weak"], "pilot", "select")
    cell = tmp_path / "cells/sums/weak"
    rates = json.loads((cell / "learning_rates.json").read_bytes())
    assert rates == dict.fromkeys(ARMS, 1e-3)
    assert not (cell / "final").exists()  # No test record is looked at while rates are chosen.

    command.main(tmp_path, ["sums/weak"], "pilot", "collect")
    result = json.loads((tmp_path / "result.json").read_bytes())
    assert [row["arm"] for row in result["rows"]] == list(ARMS)
    for row in result["rows"]:
        assert set(row["test"]) == {"base", "best", "last"}
        assert len(row["iterations"]) == 2
        assert 0 <= row["test"]["last"]["retained/greedy"] <= 1
        assert row["cost"]["flops"] > 0
    assert [row["setting"] for row in result["settings"]] == ["alpha-0.1"]
    assert all(
        each["word"] == "not run" for each in result["verdicts"]
    )  # One seed decides nothing.
    assert "Cost of a run" in (tmp_path / "result.md").read_text()

    model = cell / "final/seed-0" / ARMS[0] / "iter-0/model/model.safetensors"
    before = model.stat().st_mtime_ns
    command.main(tmp_path, ["sums/weak"], "pilot", "compare")
    assert model.stat().st_mtime_ns == before
