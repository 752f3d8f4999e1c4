"""How a claim is judged: differences that pair, intervals against bounds, one word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate

__all__ = ["CONFIDENCE", "Row", "Verdict", "Word", "above", "below", "judged", "paired"]

Row = dict[str, Any]
Word = Literal["confirmed", "not confirmed", "contradicted", "not run"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdict:
    """One claim with its figures."""

    claim: str
    word: Word
    figures: dict[str, dict[str, float | int | None]]


def paired(
    rows: Sequence[Row], arm: str, other: str, value: Callable[[Row], float]
) -> Estimate | None:
    """Mean difference of two methods over skills, bases and seeds; None below two pairs."""
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in rows:
        if row["arm"] in (arm, other):
            unit = (row["skill"], row["base"], row["seed"])
            found.setdefault(unit, {})[row["arm"]] = value(row)
    values = [pair[arm] - pair[other] for pair in found.values() if len(pair) == 2]
    return mean(values, confidence=CONFIDENCE) if len(values) > 1 else None


def judged(
    claim: str,
    figures: dict[str, Estimate | None],
    *,
    confirmed: Sequence[bool],
    contradicted: Sequence[bool],
) -> Verdict:
    """One word from what holds.

    Args:
        claim: In a sentence.
        figures: What it rests on; None where there are too few runs.
        confirmed: All must hold.
        contradicted: One is enough.
    """
    known = {name: asdict(each) for name, each in figures.items() if each is not None}
    word: Word = "not confirmed"
    if not known or len(known) < len(figures):
        word = "not run"
    elif all(confirmed):
        word = "confirmed"
    elif any(contradicted):
        word = "contradicted"
    return Verdict(claim, word, known)


def above(estimate: Estimate | None, bound: float) -> bool:
    """Whether the whole interval is above."""
    return estimate is not None and estimate.low is not None and estimate.low > bound


def below(estimate: Estimate | None, bound: float) -> bool:
    """Whether the whole interval is below."""
    return estimate is not None and estimate.high is not None and estimate.high < bound
