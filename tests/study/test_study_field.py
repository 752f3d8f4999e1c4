"""The protocol `field`: learning rates, standing against SFT, coupled samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from study.arms import CONTROL, FIELD_ARMS, START, TSPIN
from study.frontier import recommended, standings
from study.protocol import FIELD, Cell
from study.results import RESULTS, Results
from study.stages import Study
from study.tables import as_markdown
from study.verdicts import PLAIN, SPIN, coupling
from tests.study.study_runs import make_run
from tspin.compare.arms import parse_arms
from tspin.config import RunConfig

pytestmark = pytest.mark.study

SPACE, ALL_HISTORY = "space@0.25", "tspin_all@0.25"


def field_runs(skill: str, gain: float, level: float = 0.0) -> list[dict[str, Any]]:
    """SFT at two rates; `space` between them, by `gain` above the line; `tspin_all` well below."""
    rows = []
    for seed, noise in ((0, 0.0), (1, 0.01), (2, 0.02)):
        those = [
            make_run(START, seed, [0.5, 0.5], level + 0.4, 0.8),
            make_run(CONTROL, seed, [0.5, 0.5], level + 0.8, 0.4),
            make_run("matched_gentle", seed, [0.5, 0.5], level + 0.6, 0.5),  # Below the other two.
            make_run(SPACE, seed, [0.5, 0.5], level + 0.6 + gain + noise, 0.6),
            make_run(ALL_HISTORY, seed, [0.5, 0.5], level + 0.1 + noise, 0.8),
        ]
        base = {"annotated/greedy": level + 0.2, "annotated/sampled": 0.1, "retained/greedy": 0.9}
        for row in those:
            row["test"] = {**row["test"], "base": {**row["test"]["last"], **base}}
        rows += [{**row, "skill": skill} for row in those]
    return rows


def test_a_method_above_sft_on_two_skills_is_recommended() -> None:
    rows = [*field_runs("sums", 0.1), *field_runs("extraction", 0.2, level=-0.1)]
    words = {(one.skill, one.arm): one.word for one in standings(rows)}
    assert {words[skill, SPACE] for skill in ("sums", "extraction", "all")} == {"above SFT"}
    assert {words[skill, ALL_HISTORY] for skill in ("sums", "extraction", "all")} == {"below SFT"}
    assert recommended(standings(rows)) == [SPACE]
    gain = next(one for one in standings(rows) if one.arm == SPACE and one.skill == "sums")
    # Halfway between SFT with few epochs and with many: 0.6; the seeds add 0, 0.01 and 0.02.
    assert gain.gains["last", "annotated/greedy"].value == pytest.approx(0.11)
    both = next(one for one in standings(rows) if one.arm == SPACE and one.skill == "all")
    # SFT of the same skill counts alone, although that of the other one is better.
    assert both.gains["last", "annotated/greedy"].value == pytest.approx((0.11 + 0.21) / 2)
    assert both.gains["best", "annotated/sampled"].n == 6


def test_one_skill_recommends_nothing_and_one_seed_says_nothing() -> None:
    rows = [*field_runs("sums", 0.1), *field_runs("extraction", -0.01)]
    assert recommended(standings(rows)) == []
    words = {(one.skill, one.arm): one.word for one in standings(rows)}
    assert words["extraction", SPACE] == "neither"
    once = [row for row in field_runs("sums", 0.1) if row["seed"] == 0]
    assert {one.word for one in standings(once)} == {"not run"}
    assert {one.skill for one in standings(once)} == {"sums"}
    assert standings([]) == []


def test_coupling_pairs_what_differs_in_nothing_else() -> None:
    rows = []
    for seed in (0, 1):
        rows += [
            make_run(TSPIN, seed, [0.2, 0.4], 0.4, 0.8),
            make_run(PLAIN, seed, [0.2, 0.3], 0.3, 0.8),
            make_run(SPIN, seed, [0.4, 0.2], 0.2, 0.8),
            make_run("tspin_coupled", seed, [0.4, 0.6], 0.6, 0.8),
            make_run("no_history_coupled", seed, [0.3, 0.3], 0.3, 0.8),
            make_run("spin_coupled", seed, [0.5, 0.4], 0.4, 0.8),
        ]
    values = {name: one.value for name, one in coupling(rows).items() if one is not None}
    assert values == {
        "claim 4, with history minus without": pytest.approx(0.05),
        "claim 4, the same, both coupled": pytest.approx(0.2),
        "T-SPIN, coupled minus not": pytest.approx(0.2),
        "T-SPIN without history, coupled minus not": pytest.approx(0.05),
        "SPIN, coupled minus not": pytest.approx(0.15),
        "claim 1, fall, SPIN minus T-SPIN": pytest.approx(0.2),
        "claim 1, the same, both coupled": pytest.approx(0.1),
    }
    text = as_markdown(Results({"name": "field"}, rows))
    assert "| claim 4, the same, both coupled | 0.200 (0.200 to 0.200) |" in text
    assert "| claim | verdict |" not in text


def test_the_tables_say_what_is_recommended_and_pair_with_the_control() -> None:
    rows = [*field_runs("sums", 0.1), *field_runs("extraction", 0.2)]
    text = as_markdown(Results({"name": "field"}, rows))
    assert "Above SFT on two skills or more: space@0.25." in text
    assert f"Test, best iteration, minus {CONTROL}, paired:" in text
    none = as_markdown(Results({"name": "field"}, field_runs("sums", 0.1)))
    assert "Above SFT on two skills or more: none." in none


def test_rates_of_earlier_arms_are_those_of_their_protocol(tmp_path: Path) -> None:
    study, cell = Study(tmp_path, FIELD), Cell("arithmetic", "weak-known")
    chosen = {
        row["arm"]: row["learning_rate"]
        for row in Results.read(RESULTS / "known.parquet").runs
        if (row["skill"], row["base"]) == (cell.skill, cell.base)
    }
    tried: list[list[str]] = []

    class Recording(Study):
        """Runs nothing, and finds 1e-3 the best rate for all."""

        def play(self, cell: Cell, methods: Any, out: Path, options: list[str]) -> None:
            tried.append([*methods])
            exact = 0.9 if out.name == "0.001" else 0.1
            modes = {f"exact_match/exact/{mode}": exact for mode in ("greedy", "sampled")}
            values = {**modes, "nll_per_token": 1.0}
            metrics = {name: {"value": value} for name, value in values.items()}
            arms = [
                {"name": method.partition("=")[0], "by_iteration": {"base": {}, "0": metrics}}
                for method in methods
            ]
            out.mkdir(parents=True)
            (out / "compare.json").write_text(json.dumps({"arms": arms}))

    recording = Recording(tmp_path, FIELD)
    rates = recording.select(cell)
    new = [ALL_HISTORY, SPACE, "rft_4=rft@0.25", "sdft_short=sdft@0.25"]
    assert tried == [new] * len(FIELD.learning_rates)
    assert {rates[arm] for arm in (ALL_HISTORY, SPACE, "rft_4", "sdft_short")} == {1e-3}
    for arm in (TSPIN, PLAIN, SPIN, START, CONTROL):
        assert rates[arm] == chosen[arm]
    assert study.rate(cell, "tspin_coupled") == chosen[TSPIN]
    assert study.rate(cell, "matched_gentlest") == 0.03 * chosen[CONTROL]


def test_what_the_field_compares_is_what_tspin_compare_takes() -> None:
    arms = parse_arms(arm.asked(name) for name, arm in FIELD_ARMS.items())
    assert [arm.name for arm in arms] == list(FIELD_ARMS)
    assert {arm.share for arm in arms} == {0.25}
    for arm in FIELD_ARMS.values():
        for setting in arm.settings:
            section, _, name = setting.partition(".")
            assert name in type(RunConfig.model_fields[section].default).model_fields
        assert arm.paced is None or FIELD_ARMS[arm.paced].paced is None
