"""The study from data to verdicts on a tiny base: every stage, through the project's commands."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from study import measurements, stages
from study import search as search_module
from study.__main__ import run_study
from study.arms import CONTROL, FIELD_ARMS, START, TSPIN, Arm
from study.bases import RECORD
from study.protocol import PILOT, PROTOCOLS, base_folder
from study.regimes import NEW_FORM, SEARCHES, Part, Regime, Search
from study.results import Results

pytestmark = [pytest.mark.study, pytest.mark.integration]

SEVERAL = {"several": Regime("tspin", paced=TSPIN), "other": Regime("sft", paced=TSPIN)}
OWN = {arm: Arm(arm) for arm in (TSPIN, START, CONTROL)}
"""Of the seven, those that everything is made of."""
PACED = {name: FIELD_ARMS[name] for name in ("tspin_coupled", "matched_gentle")}
"""Two with settings of their own at other arms' learning rates."""
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
    arms=OWN | PACED,
)


def test_the_study_runs_to_its_verdicts_and_continues(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "pilot", TINY)
    monkeypatch.setattr(stages, "SETTINGS", {"alpha-0.1": {"alpha": 0.1}})
    monkeypatch.setattr(measurements, "SETTINGS", {"alpha-0.1": {}})
    # Of the search two settings from each start.
    warm = NEW_FORM.parts["warm"]
    some = {label: NEW_FORM.from_base[label] for label in ("falling", "matched_gentle")}
    two = {label: warm.regimes[label] for label in ("warm", "warm_matched")}
    parts = {"warm": dataclasses.replace(warm, regimes=two), "several": Part(SEVERAL, copies=2)}
    monkeypatch.setitem(SEARCHES, "new", Search(some, parts))
    again = {label: NEW_FORM.from_base[label] for label in ("papers", "matched")}
    monkeypatch.setattr(search_module, "KNOWN_FORM", Search(again, {}))
    monkeypatch.setattr(search_module, "CONFIRMED", {"sums": ("papers",)})
    monkeypatch.setattr(search_module, "CONFIRMING_SEEDS", (2001,))
    base = base_folder(tmp_path, "weak", "sums")
    shutil.copytree(tiny_model_dir, base)
    (base / RECORD).write_text("{}")

    run_study(tmp_path, ["sums/weak"], "pilot", "select")
    cell = tmp_path / "cells/sums/weak"
    rates = json.loads((cell / "learning_rates.json").read_bytes())
    assert rates == dict.fromkeys(OWN, 1e-3)
    run_study(tmp_path, ["sums/weak"], "pilot", "search")
    assert not (cell / "final").exists()  # No test record is looked at until all that is over.

    run_study(tmp_path, ["sums/weak"], "pilot", "collect")
    results = Results.read(tmp_path / "pilot.parquet")
    assert [row["arm"] for row in results.runs] == [*OWN, *PACED]
    paces = {row["arm"]: row["learning_rate"] for row in results.runs}
    assert paces == {**dict.fromkeys([*OWN, "tspin_coupled"], 1e-3), "matched_gentle": 3e-4}
    coupled = json.loads((cell / "final/seed-0/tspin_coupled/config.json").read_bytes())
    assert (coupled["generate"]["coupled"], coupled["train"]["learning_rate"]) == (True, 1e-3)
    for row in results.runs:
        assert set(row["test"]) == {"base", "best", "last"}
        assert len(row["iterations"]) == 2
        assert 0 <= row["test"]["last"]["retained/greedy"] <= 1
        assert row["cost"]["flops"] > 0
    assert [row["setting"] for row in results.settings] == ["alpha-0.1"]
    searched = {(row["part"], row["arm"]): row for row in results.search}
    assert {arm for part, arm in searched if part == "rate-0.001"} == {*OWN}
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
    controls = {row["arm"]: row["control"] for row in results.confirmed}
    assert controls == {"papers": False, "matched": True, START: True}
    assert all(0 <= row["test"]["last"]["retained/greedy"] <= 1 for row in results.confirmed)
    assert [row["arm"] for row in results.tempered] == ["base", *OWN, "tspin_coupled"]
    assert all(row["temperature"] > 0 for row in results.tempered)
    signs = [row for row in results.signs if row["part"] == "final"]
    assert len(signs) == 2 * len(TINY.arms)
    assert {"saturated_share" in row for row in signs} == {True, False}  # sft has no y'.
    text = (tmp_path / "pilot.md").read_text()
    assert text.count("**not run**") == 6  # One seed decides nothing.
    assert "Cost of a run" in text

    model = cell / "final/seed-0" / TSPIN / "iter-0/model/model.safetensors"
    before = model.stat().st_mtime_ns
    run_study(tmp_path, ["sums/weak"], "pilot", "compare")
    assert model.stat().st_mtime_ns == before
