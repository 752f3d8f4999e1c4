"""The study's search: what beats the control, what SFT reaches at equal retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.frontier import advantage, confirmed_advantage, points, reached, wins
from study.measurements import collect_runs
from study.protocol import PILOT, Cell
from study.results import Results
from study.search import collect_confirmed, collect_search, confirm, search
from study.stages import Study
from study.tables import as_markdown
from tests.study.study_runs import make_runs

pytestmark = pytest.mark.study


def search_row(
    skill: str, arm: str, seed: int, greedy: float, kept: float, part: str = "search"
) -> dict[str, Any]:
    values = {"greedy": greedy, "sampled": greedy, "nll_per_token": 1.0}
    values |= {"retained/greedy": kept, "retained/nll_per_token": 1.0}
    run = {"skill": skill, "base": "weak", "part": part, "arm": arm, "seed": seed}
    return {**run, "best": values}


def gain(arm: str, rows: list[dict[str, Any]]) -> float | None:
    everyone = points(rows)
    return advantage(next(point for point in everyone if point.arm == arm), everyone)


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
    everyone = points(rows)
    assert [point.values["greedy"] for point in everyone if point.arm == "matched"] == [
        pytest.approx(0.805)
    ]
    skills = {"papers": [], "gentle": ["sums"], "falling": [], "few": ["sums"]}
    assert wins(everyone) == skills
    gains = {
        point.arm: advantage(point, everyone) for point in everyone if not point.regime.control
    }
    # "gentle" lies between plain SFT and "matched", "papers" and "falling" beyond all of SFT.
    between = 0.6 + 2 / 3 * (0.805 - 0.6)
    assert gains["gentle"] == pytest.approx(0.805 - between)
    assert gains["papers"] == pytest.approx(0.9 - 0.805)
    assert gains["falling"] == pytest.approx(0.7 - 0.6)
    assert gains["few"] == pytest.approx(0.4 - 0.3)
    slow = search_row("sums", "sft@0.25", 1000, 0.7, 0.9, part="rate-0.0001")
    assert gain("falling", [*rows, slow]) == pytest.approx(0)
    assert wins(points([*rows, slow])) == skills
    still = search_row("sums", "base", 1001, 0.81, 0.4)  # Not trained at all.
    assert gain("gentle", [*rows, still]) == pytest.approx(0.805 - 0.81)
    assert wins(points([*rows, still])) == skills
    later = search_row("sums", "alpha_tenth", 1001, 0.9, 0.4, part="unsaturated-1001")
    assert wins(points([*rows, later])) == {**skills, "alpha_tenth": ["sums"]}
    protocol = {"searches": {"weak": "new"}}
    results = Results(protocol, runs=make_runs(), search=rows)
    assert "| gentle | sums |" in as_markdown(results)


def confirmed_row(arm: str, seed: int, greedy: float, kept: float, **others: Any) -> dict[str, Any]:
    values = {"annotated/greedy": greedy, "annotated/sampled": 0.1, "retained/greedy": kept}
    base = {"annotated/greedy": 0.3, "annotated/sampled": 0.1, "retained/greedy": 0.9}
    run = {"skill": "sums", "base": "strong-known", "arm": arm, "seed": seed, "control": False}
    return {**run, "test": {"base": base, "best": values, "last": values}, **others}


def test_what_is_confirmed_pairs_with_sft_of_the_same_base_and_seed() -> None:
    rows = []
    for seed, noise in ((2001, 0.0), (2002, 0.1), (2003, 0.2)):
        rows += [
            confirmed_row("gentle", seed, 0.5 + noise, 0.8),
            confirmed_row("matched", seed, 0.5 + noise, 0.7, control=True),
        ]
    gain = confirmed_advantage(rows, "gentle", "last", "annotated/greedy")
    # Halfway between the base and "matched": 0.4, 0.45 and 0.5.
    assert (gain.value, gain.n) == (pytest.approx(0.15), 3)
    assert gain.low is not None and gain.low == pytest.approx(
        0.15 - 4.3027 * 0.05 / 3**0.5, abs=1e-4
    )
    best = confirmed_advantage(rows, "gentle", "best", "annotated/sampled")
    assert best.value == pytest.approx(0)
    results = Results({}, runs=make_runs(), confirmed=rows)
    assert "| sums | gentle | last | 0.150 (0.026 to 0.274) |" in as_markdown(results)


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
    assert list(collect_runs(study, cell)) == []
    assert list(collect_confirmed(study, cell)) == []
    assert collect_search(study, cell) == []
