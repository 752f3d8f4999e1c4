"""Exactness against retention: what SFT reaches while it keeps as much, and what lies above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from study.arms import CONTROL, FIELD_ARMS, START, UNTRAINED
from study.regimes import SEARCHES, Regime, Search
from study.results import ConfirmedRow, RunRow, SearchRow
from study.skills import SKILLS
from study.verdicts import CONFIDENCE
from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate

__all__ = [
    "AXES",
    "Point",
    "Standing",
    "advantage",
    "confirmed_advantage",
    "points",
    "reached",
    "recommended",
    "standings",
    "wins",
]

MARGIN = 0.02
"""Less than this counts as equal."""
RATES = "rates"
"""Where the runs stand that chose learning rates: from the base, another seed, fewer iterations."""
_SAME = ("base", "several", RATES)
"""Parts that begin with the base and learn from the same pairs."""
_KEYS = ("greedy", "sampled", "nll_per_token", "retained/greedy", "retained/nll_per_token")

AXES = {"annotated/greedy": "greedy", "annotated/sampled": "sampled"}
SKILLS_NEEDED = 2
"""On so many skills a method has to lie above SFT to be recommended."""
ALL = "all"


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

    def rivals(self, everyone: Sequence[Point]) -> list[Point]:
        """The controls on the same skill, from the same start, with as many pairs."""
        return [
            point
            for point in everyone
            if point.regime.control and (point.skill, point.start) == (self.skill, self.start)
            if ("few" in point.arm) == ("few" in self.arm)
        ]


def points(rows: Sequence[SearchRow], name: str = "new") -> list[Point]:
    """All regimes of a search in its order, then SFT at each rate that was tried to choose one.

    Args:
        rows: Of `search.collect_search`, all on one base.
        name: Which search it was.
    """
    plan = SEARCHES[name]
    values: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for row in rows:
        start, arm = _position(row, plan)
        values.setdefault((row["skill"], start, arm), []).append(row["best"])
    regimes = {
        (start, arm): regime
        for start, those in plan.regimes().items()
        for arm, regime in those.items()
    }
    for _, start, arm in values:
        method = arm.partition(" ")[0]
        if start == RATES and method in (START, CONTROL):
            regimes.setdefault((start, arm), Regime(method))
    return [
        Point(skill, start, arm, regime, {key: fmean(run[key] for run in runs) for key in _KEYS})
        for skill in SKILLS
        for (start, arm), regime in regimes.items()
        if (runs := values.get((skill, start, arm)))
    ]


def _position(row: SearchRow, plan: Search) -> tuple[str, str]:
    """Start and name of the point that a row belongs to."""
    part = row["part"]
    if part == "search":
        return "base", row["arm"]
    kind, _, rest = part.rpartition("-")
    if kind == "rate":
        return RATES, f"{row['arm']} {rest}"
    return "base" if plan.parts[kind].plain else kind, row["arm"]


def wins(everyone: Sequence[Point]) -> dict[str, list[str]]:
    """By regime: the skills on which it beats the control, at the control's best learning rate."""
    skills: dict[str, list[str]] = {}
    for point in everyone:
        rivals = [
            rival for rival in point.rivals(everyone) if rival.regime.arm not in (START, UNTRAINED)
        ]
        if point.regime.control or not rivals:
            continue
        best = max(rivals, key=lambda rival: rival.values["greedy"])
        skills.setdefault(point.arm, [])
        if point.beats(best):
            skills[point.arm].append(point.skill)
    return skills


def _elsewhere(point: Point, everyone: Sequence[Point]) -> list[Point]:
    """SFT of the same pairs from the same base in other parts of the search."""
    if point.start not in _SAME or "few" in point.arm:
        return []
    return [
        other
        for other in everyone
        if other.regime.control and other.skill == point.skill
        if other.start in _SAME and "few" not in other.arm
    ]


def advantage(point: Point, everyone: Sequence[Point], axis: str = "greedy") -> float | None:
    """How far a regime lies above all that SFT, at any learning rate, reaches at its retention.

    Args:
        point: Of T-SPIN.
        everyone: All points of the search; SFT with less compute counts, and the base as it is.
        axis: Which exactness.

    Returns:
        The difference in exactness; None for a control, and where no control was run.
    """
    rivals = [*point.rivals(everyone), *_elsewhere(point, everyone)]
    if point.regime.control or not rivals:
        return None
    policies = [(rival.values["retained/greedy"], rival.values[axis]) for rival in rivals]
    return point.values[axis] - reached(policies, point.values["retained/greedy"])


def confirmed_advantage(rows: Sequence[ConfirmedRow], arm: str, moment: str, axis: str) -> Estimate:
    """How far an arm lies above what SFT reaches at its retention; pairs in skill, base and seed.

    Args:
        rows: Of `search.collect_confirmed`, or final runs that say what is SFT.
        arm: A regime, or a method.
        moment: 'best' or 'last'.
        axis: Which exactness, 'annotated/greedy' or 'annotated/sampled'.
    """
    gains = []
    for row in [row for row in rows if row["arm"] == arm]:
        unit = [other for other in rows if _unit(other) == _unit(row)]
        policies = [other["test"][moment] for other in unit if other["control"]]
        policies.append(row["test"]["base"])
        pairs = [(policy["retained/greedy"], policy[axis]) for policy in policies]
        mine = row["test"][moment]
        gains.append(mine[axis] - reached(pairs, mine["retained/greedy"]))
    return mean(gains, confidence=CONFIDENCE)


def _unit(row: ConfirmedRow) -> tuple[str, str, int]:
    return row["skill"], row["base"], row["seed"]


def reached(policies: Sequence[tuple[float, float]], kept: float) -> float:
    """The highest exactness at a retention of `kept` or more, of policies and mixtures of two.

    Who answers with one policy or, by chance, with another has the mean of both in exactness and in
    retention: so what lies between two policies can be had as well. Where no policy keeps as much,
    it is the exactness of the one that keeps most.

    Args:
        policies: Retention and exactness of each, at least one.
        kept: Retention, a share.
    """
    over = [policy for policy in policies if policy[0] >= kept]
    if not over:
        return max(policies)[1]
    mixed = [
        exact + (kept - more) / (less - more) * (other - exact)
        for more, exact in over
        for less, other in policies
        if less < kept
    ]
    return max([*(exact for _, exact in over), *mixed])


@dataclass(frozen=True)
class Standing:
    """A method on one skill, or on all: exactness above what SFT reaches at its retention."""

    skill: str
    arm: str
    gains: dict[tuple[str, str], Estimate]
    """By moment, 'best' or 'last', and axis."""

    @property
    def word(self) -> Literal["above SFT", "below SFT", "neither", "not run"]:
        """Of whole intervals: greedy answers after the last iteration."""
        gain = self.gains["last", "annotated/greedy"]
        if gain.low is None or gain.high is None:
            return "not run"
        if gain.low > 0:
            return "above SFT"
        return "below SFT" if gain.high < 0 else "neither"


def standings(rows: Sequence[RunRow]) -> list[Standing]:
    """Each method but SFT on each skill, then on all skills together.

    Args:
        rows: Final runs of the protocol `field`; SFT of the same skill, base and seed counts, at
            every learning rate, and the base as it is.
    """
    marked = [{**row, "control": FIELD_ARMS[row["arm"]].method.startswith("sft")} for row in rows]
    skills = [name for name in SKILLS if any(row["skill"] == name for row in rows)]
    return [
        Standing(
            skill,
            arm,
            {
                (moment, axis): confirmed_advantage(mine, arm, moment, axis)
                for moment in ("best", "last")
                for axis in AXES
            },
        )
        for skill in (*skills, *([ALL] if len(skills) > 1 else []))
        if (mine := [row for row in marked if skill in (ALL, row["skill"])])
        for arm in dict.fromkeys(row["arm"] for row in mine if not row["control"])
    ]


def recommended(those: Sequence[Standing]) -> list[str]:
    """Methods that lie above SFT at equal retention on at least two skills."""
    above = [one.arm for one in those if one.skill != ALL and one.word == "above SFT"]
    return [arm for arm in dict.fromkeys(above) if above.count(arm) >= SKILLS_NEEDED]
