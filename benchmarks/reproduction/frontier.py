"""What the search found: exactness against retention, every regime beside the best control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.reproduction.judging import Row
from benchmarks.reproduction.regimes import Regime
from benchmarks.reproduction.searches import SEARCHES
from benchmarks.reproduction.skills import SKILLS

__all__ = ["Point", "found", "outdone", "points"]

MARGIN = 0.02
"""Less than this counts as equal."""
_KEYS = ("greedy", "sampled", "nll_per_token", "retained/greedy", "retained/nll_per_token")


@dataclass(frozen=True)
class Point:
    """An arm of the search on one skill: means over its seeds, at each run's best iteration."""

    skill: str
    start: str
    """'base', or a part of the search."""
    arm: str
    regime: Regime
    values: dict[str, float]

    @property
    def control(self) -> bool:
        """Whether it is supervised fine-tuning with the compute of self-play, or on all records."""
        return self.regime.arm.startswith("sft")

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
            if each.control and (each.skill, each.start) == (self.skill, self.start)
            if ("few" in each.arm) == ("few" in self.arm)
        ]


def points(search: Sequence[Row], name: str = "new") -> list[Point]:
    """All regimes of a search in its order; the runs that chose learning rates are left out.

    Args:
        search: Rows of `search.collect_search`.
        name: Which search it was.
    """
    tried = SEARCHES[name].regimes()
    named = [(start, arm, regimes[arm]) for start, regimes in tried.items() for arm in regimes]
    made = []
    for skill in SKILLS:
        for start, arm, regime in named:
            mine = [row["best"] for row in search if (row["skill"], row["arm"]) == (skill, arm)]
            if mine:
                values = {name: fmean(each[name] for each in mine) for name in _KEYS}
                made.append(Point(skill, start, arm, regime, values))
    return made


def found(made: Sequence[Point]) -> dict[str, list[str]]:
    """By regime: the skills on which it beats the control, at the control's best learning rate."""
    wins: dict[str, list[str]] = {}
    for point in made:
        rivals = point.rivals(made)
        if point.control or not rivals:
            continue
        best = max(rivals, key=lambda each: each.values["greedy"])
        wins.setdefault(point.arm, [])
        if point.beats(best):
            wins[point.arm].append(point.skill)
    return wins


def outdone(made: Sequence[Point]) -> dict[str, list[str]]:
    """By regime: the skills on which the control, at some learning rate, is nowhere worse.

    Nowhere: neither in exactness nor in retention.
    """
    losses: dict[str, list[str]] = {}
    for point in [each for each in made if not each.control and each.rivals(made)]:
        losses.setdefault(point.arm, [])
        axes = ("greedy", "retained/greedy")
        if any(
            all(rival.values[axis] >= point.values[axis] for axis in axes)
            for rival in point.rivals(made)
        ):
            losses[point.arm].append(point.skill)
    return losses
