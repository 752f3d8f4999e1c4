"""The study from data to verdicts on a tiny base: every stage, through the project's commands."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import benchmarks.reproduction.__main__ as command
import benchmarks.reproduction.study as study_module
from benchmarks.reproduction import bases, confirming
from benchmarks.reproduction.protocol import CONTROL, PILOT, PROTOCOLS, TSPIN
from benchmarks.reproduction.regimes import START, Part, Regime, Search
from benchmarks.reproduction.searches import NEW, SEARCHES

pytestmark = pytest.mark.integration

SEVERAL = {"several": Regime("tspin", paced=TSPIN), "other": Regime("sft", paced=TSPIN)}
ARMS = (TSPIN, START, CONTROL)
"""Of the seven, those that everything is made of."""
TINY = dataclasses.replace(
    PILOT,
    annotated=16,
    validation=4,
    test=4,
    kept=4,
    skipped_tests=2,
    iterations=2,
    selection_iterations=1,
    epochs=1,
    global_batch_size=2,
    learning_rates=(1e-3,),
    sensitive_base="weak",
    searches={"weak": "new"},
    confirmed=("weak",),
)


def test_the_study_runs_to_its_verdicts_and_continues(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "pilot", TINY)
    monkeypatch.setattr(study_module, "ARMS", ARMS)
    monkeypatch.setattr(study_module, "SETTINGS", {"alpha-0.1": {"alpha": 0.1}})
    monkeypatch.setattr("benchmarks.reproduction.rows.SETTINGS", {"alpha-0.1": {}})
    # Of the search two settings from each start.
    warm = NEW.parts["warm"]
    some = {label: NEW.from_base[label] for label in ("falling", "matched_gentle")}
    two = {label: warm.regimes[label] for label in ("warm", "warm_matched")}
    parts = {"warm": dataclasses.replace(warm, regimes=two), "several": Part(SEVERAL, copies=2)}
    monkeypatch.setitem(SEARCHES, "new", Search(some, parts))
    again = {label: NEW.from_base[label] for label in ("papers", "matched")}
    monkeypatch.setattr(confirming, "KNOWN", Search(again, {}))
    monkeypatch.setattr(confirming, "CONFIRMED", {"sums": ("papers",)})
    monkeypatch.setattr(confirming, "CONFIRMING_SEEDS", (2001,))
    base = bases.base_folder(tmp_path, "weak", "sums")
    shutil.copytree(tiny_model_dir, base)
    (base / bases.RECORD).write_text("{}")

    command.main(tmp_path, ["sums/weak"], "pilot", "select")
    cell = tmp_path / "cells/sums/weak"
    rates = json.loads((cell / "learning_rates.json").read_bytes())
    assert rates == dict.fromkeys(ARMS, 1e-3)
    command.main(tmp_path, ["sums/weak"], "pilot", "search")
    assert not (cell / "final").exists()  # No test record is looked at until all that is over.

    command.main(tmp_path, ["sums/weak"], "pilot", "collect")
    result = json.loads((tmp_path / "result.json").read_bytes())
    assert [row["arm"] for row in result["rows"]] == list(ARMS)
    for row in result["rows"]:
        assert set(row["test"]) == {"base", "best", "last"}
        assert len(row["iterations"]) == 2
        assert 0 <= row["test"]["last"]["retained/greedy"] <= 1
        assert row["cost"]["flops"] > 0
    assert [row["setting"] for row in result["settings"]] == ["alpha-0.1"]
    searched = {(row["part"], row["arm"]): row for row in result["search"]}
    assert {arm for part, arm in searched if part == "rate-0.001"} == {*ARMS}
    from_base = {"base", "falling", "matched_gentle", "sft@0.25"}
    assert {arm for part, arm in searched if part == "search"} == from_base
    assert {arm for part, arm in searched if part == "warm-1001"} == {"warm", "warm_matched"}
    assert 0 <= searched["search", "falling"]["last"]["retained/greedy"] <= 1
    falling = json.loads((cell / "search/seed-1001/falling/config.json").read_bytes())
    assert falling["train"]["learning_rate"] == [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    warm = json.loads((cell / "search-warm-1001/seed-1001/warm/config.json").read_bytes())
    assert warm["model"]["path"].endswith("search/seed-1001/sft@0.25/iter-1/model")
    copied = (cell / "annotated-2-times.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"][-2:] for line in copied] == ["-0", "-1"] * 4
    several = json.loads((cell / "search-several-1001/seed-1001/several/config.json").read_bytes())
    assert several["model"]["path"] == str(base)
    told = {row["arm"]: row["control"] for row in result["confirmed"]}
    assert told == {"papers": False, "matched": True, START: True}
    assert all(0 <= row["test"]["last"]["retained/greedy"] <= 1 for row in result["confirmed"])
    assert [row["arm"] for row in result["tempered"]] == ["base", *ARMS]
    assert all(row["temperature"] > 0 for row in result["tempered"])
    signs = [row for row in result["signs"] if "/final/" in row["run"]]
    assert len(signs) == 2 * len(ARMS)
    assert {row["saturated_share"] is None for row in signs} == {True, False}  # sft has no y'.
    assert all(
        each["word"] == "not run" for each in result["verdicts"]
    )  # One seed decides nothing.
    assert "Cost of a run" in (tmp_path / "result.md").read_text()

    model = cell / "final/seed-0" / ARMS[0] / "iter-0/model/model.safetensors"
    before = model.stat().st_mtime_ns
    command.main(tmp_path, ["sums/weak"], "pilot", "compare")
    assert model.stat().st_mtime_ns == before
