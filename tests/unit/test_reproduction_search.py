"""The study's search: what beats the control, what SFT reaches at equal retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.reproduction.confirming import above, collect_confirmed, confirm
from benchmarks.reproduction.frontier import advantage, found, points
from benchmarks.reproduction.markdown import as_markdown
from benchmarks.reproduction.protocol import PILOT, Cell
from benchmarks.reproduction.rows import collect_rows
from benchmarks.reproduction.search import collect_search, search
from benchmarks.reproduction.study import Study
from benchmarks.reproduction.tradeoff import reached
from tests.made_study import make_rows


def search_row(
    skill: str, arm: str, seed: int, greedy: float, kept: float, part: str = "search"
) -> dict[str, Any]:
    values = {"greedy": greedy, "sampled": greedy, "nll_per_token": 1.0}
    values |= {"retained/greedy": kept, "retained/nll_per_token": 1.0}
    told = {"skill": skill, "base": "weak", "part": part, "arm": arm, "seed": seed}
    return {**told, "best": values}


def gain(arm: str, rows: list[dict[str, Any]]) -> float | None:
    made = points(rows)
    return advantage(next(each for each in made if each.arm == arm), made)


def test_a_regime_wins_where_it_beats_the_control_at_its_best_rate() -> None:
    rows = []
    for seed, noise in ((1001, 0.0), (1002, 0.01)):
        rows += [
            search_row("sums", "matched", seed, 0.8 + noise, 0.3),
            search_row("sums", "matched_gentle", seed, 0.5, 0.5),  # Not the best rate.
            search_row("sums", "gentle", seed, 0.8 + noise, 0.4),  # As exact, keeps more.
            search_row("sums", "papers", seed, 0.9, 0.2),  # More exact, keeps less.
            search_row("sums", "falling", seed, 0.7, 0.9),  # The other way about.
            search_row("sums", "few", seed, 0.4, 0.3),
            search_row("sums", "few_matched", seed, 0.3, 0.3),  # The control of few pairs.
            search_row("sums", "sft@0.25", seed, 0.6, 0.6),  # SFT with less compute.
        ]
    made = points(rows)
    assert [each.values["greedy"] for each in made if each.arm == "matched"] == [
        pytest.approx(0.805)
    ]
    wins = {"papers": [], "gentle": ["sums"], "falling": [], "few": ["sums"]}
    assert found(made) == wins
    gains = {each.arm: advantage(each, made) for each in made if not each.regime.control}
    # "gentle" lies between plain SFT and "matched", "papers" and "falling" beyond all of SFT.
    between = 0.6 + 2 / 3 * (0.805 - 0.6)
    assert gains["gentle"] == pytest.approx(0.805 - between)
    assert gains["papers"] == pytest.approx(0.9 - 0.805)
    assert gains["falling"] == pytest.approx(0.7 - 0.6)
    assert gains["few"] == pytest.approx(0.4 - 0.3)
    slow = search_row("sums", "sft@0.25", 1000, 0.7, 0.9, part="rate-0.0001")
    assert gain("falling", [*rows, slow]) == pytest.approx(0)
    assert found(points([*rows, slow])) == wins
    still = search_row("sums", "base", 1001, 0.81, 0.4)  # Not trained at all.
    assert gain("gentle", [*rows, still]) == pytest.approx(0.805 - 0.81)
    assert found(points([*rows, still])) == wins
    later = search_row("sums", "alpha_tenth", 1001, 0.9, 0.4, part="unsaturated-1001")
    assert found(points([*rows, later])) == {**wins, "alpha_tenth": ["sums"]}
    protocol = {"searches": {"weak": "new"}}
    result = {"protocol": protocol, "rows": make_rows(), "verdicts": [], "search": rows}
    assert "| gentle | sums |" in as_markdown(result)


def confirmed_row(arm: str, seed: int, greedy: float, kept: float, **given: Any) -> dict[str, Any]:
    values = {"annotated/greedy": greedy, "annotated/sampled": 0.1, "retained/greedy": kept}
    base = {"annotated/greedy": 0.3, "annotated/sampled": 0.1, "retained/greedy": 0.9}
    told = {"skill": "sums", "base": "strong-known", "arm": arm, "seed": seed, "control": False}
    return {**told, "test": {"base": base, "best": values, "last": values}, **given}


def test_what_is_confirmed_pairs_with_sft_of_the_same_base_and_seed() -> None:
    rows = []
    for seed, noise in ((2001, 0.0), (2002, 0.1), (2003, 0.2)):
        rows += [
            confirmed_row("gentle", seed, 0.5 + noise, 0.8),
            confirmed_row("matched", seed, 0.5 + noise, 0.7, control=True),
        ]
    told = above(rows, "gentle", "last", "annotated/greedy")
    # Halfway between the base and "matched": 0.4, 0.45 and 0.5.
    assert (told.value, told.n) == (pytest.approx(0.15), 3)
    assert told.low is not None and told.low == pytest.approx(
        0.15 - 4.3027 * 0.05 / 3**0.5, abs=1e-4
    )
    assert above(rows, "gentle", "best", "annotated/sampled").value == pytest.approx(0)
    result = {"protocol": {}, "rows": make_rows(), "verdicts": [], "confirmed": rows}
    assert "| sums | gentle | last | 0.150 (0.026 to 0.274) |" in as_markdown(result)


@pytest.mark.parametrize(
    ("kept", "exact"), [(0.95, 0.2), (0.9, 0.2), (0.7, 0.5), (0.5, 0.8), (0.0, 0.8)]
)
def test_sft_reaches_mixtures_of_its_policies(kept: float, exact: float) -> None:
    assert reached([(0.9, 0.2), (0.8, 0.3), (0.5, 0.8)], kept) == pytest.approx(exact)


def test_what_the_protocol_does_not_ask_for_is_not_run_and_adds_no_rows(tmp_path: Path) -> None:
    study, cell = Study(tmp_path, PILOT), Cell("sums", "weak")
    search(study, cell)
    confirm(study, cell)
    study.vary(cell)
    assert list(tmp_path.iterdir()) == []
    assert list(collect_rows(study, cell)) == []
    assert list(collect_confirmed(study, cell)) == []
    assert collect_search(study, cell) == []
