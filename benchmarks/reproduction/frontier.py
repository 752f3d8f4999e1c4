"""What the search found: exactness against retention, every regime beside the best control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.reproduction.judging import Row
from benchmarks.reproduction.protocol import CONTROL, UNTRAINED
from benchmarks.reproduction.regimes import START, Regime, Search
from benchmarks.reproduction.searches import SEARCHES
from benchmarks.reproduction.skills import SKILLS
from benchmarks.reproduction.tradeoff import reached

__all__ = ["Point", "advantage", "found", "points"]

MARGIN = 0.02
"""Less than this counts as equal."""
RATES = "rates"
"""Where the runs stand that chose learning rates: from the base, another seed, fewer iterations."""
_SAME = ("base", "several", RATES)
"""Parts that begin with the base and learn from the same pairs."""
_KEYS = ("greedy", "sampled", "nll_per_token", "retained/greedy", "retained/nll_per_token")


@dataclass(frozen=True)
class Point:
    """An arm of the search on one skill: means over its seeds, at each run's best iteration."""

    skill: str
    start: str
    """'base', a part of the search, or `RATES`."""
    arm: str
    regime: Regime
    values: dict[str, float]

    def beats(self, other: Point) -> bool:
        """Better in exactness or retention by more than the margin, and not worse in the other."""
        exact, kept = (
            self.values[name] - other.values[name] for name in ("greedy", "retained/greedy")
        )
        return (exact > MARGIN and kept >= -MARGIN) or (kept > MARGIN and exact >= -MARGIN)

    def rivals(self, made: Sequence[Point]) -> list[Point]:
        """The controls on the same skill, from the same start, with as many pairs."""
        return [
            each
            for each in made
            if each.regime.control and (each.skill, each.start) == (self.skill, self.start)
            if ("few" in each.arm) == ("few" in self.arm)
        ]


def points(search: Sequence[Row], name: str = "new") -> list[Point]:
    """All regimes of a search in its order, then SFT at each rate that was tried to choose one.

    Args:
        search: Rows of `search.collect_search`, all on one base.
        name: Which search it was.
    """
    tried = SEARCHES[name]
    rows: dict[tuple[str, str, str], list[Row]] = {}
    for row in search:
        start, arm = _where(row, tried)
        rows.setdefault((row["skill"], start, arm), []).append(row["best"])
    regimes = {
        (start, arm): regime
        for start, those in tried.regimes().items()
        for arm, regime in those.items()
    }
    for _, start, arm in rows:
        method = arm.partition(" ")[0]
        if start == RATES and method in (START, CONTROL):
            regimes.setdefault((start, arm), Regime(method))
    return [
        Point(skill, start, arm, regime, {key: fmean(each[key] for each in mine) for key in _KEYS})
        for skill in SKILLS
        for (start, arm), regime in regimes.items()
        if (mine := rows.get((skill, start, arm)))
    ]


def _where(row: Row, tried: Search) -> tuple[str, str]:
    """Start and name of the point that a row belongs to."""
    part = row["part"]
    if part == "search":
        return "base", row["arm"]
    kind, _, rest = part.rpartition("-")
    if kind == "rate":
        return RATES, f"{row['arm']} {rest}"
    return "base" if tried.parts[kind].plain else kind, row["arm"]


def found(made: Sequence[Point]) -> dict[str, list[str]]:
    """By regime: the skills on which it beats the control, at the control's best learning rate."""
    wins: dict[str, list[str]] = {}
    for point in made:
        rivals = [each for each in point.rivals(made) if each.regime.arm not in (START, UNTRAINED)]
        if point.regime.control or not rivals:
            continue
        best = max(rivals, key=lambda each: each.values["greedy"])
        wins.setdefault(point.arm, [])
        if point.beats(best):
            wins[point.arm].append(point.skill)
    return wins


def _elsewhere(point: Point, made: Sequence[Point]) -> list[Point]:
    """SFT of the same pairs from the same base in other parts of the search."""
    if point.start not in _SAME or "few" in point.arm:
        return []
    return [
        each
        for each in made
        if each.regime.control and each.skill == point.skill
        if each.start in _SAME and "few" not in each.arm
    ]


def advantage(point: Point, made: Sequence[Point], axis: str = "greedy") -> float | None:
    """How far a regime lies above all that SFT, at any learning rate, reaches at its retention.

    Args:
        point: Of T-SPIN.
        made: All points of the search; SFT with less compute counts, and the base as it is.
        axis: Which exactness.
    """
    rivals = [*point.rivals(made), *_elsewhere(point, made)]
    if point.regime.control or not rivals:
        return None
    policies = [(each.values["retained/greedy"], each.values[axis]) for each in rivals]
    return point.values[axis] - reached(policies, point.values["retained/greedy"])
