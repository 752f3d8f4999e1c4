"""The verdict on each claim of the paper, by rules that stand in docs/reproduction.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from benchmarks.reproduction.protocol import CONTROL, SETTINGS, SHARE
from tspin.estimate import Estimate
from tspin.intervals import mean

__all__ = ["Verdict", "paired", "verdicts"]

Row = dict[str, Any]
Word = Literal["confirmed", "not confirmed", "contradicted", "not run"]

CONFIDENCE = 0.95
MARGIN = 0.02
"""Claim 2: how much worse still counts as a match."""
NARROW = 0.05
"""Claim 5: how far other settings may lie from the papers'."""
HALF = (0.35, 0.65)
"""Claim 3: what counts as about half."""
TSPIN, PLAIN, SPIN = f"tspin@{SHARE}", f"tspin_no_history@{SHARE}", f"spin@{SHARE}"


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


def verdicts(rows: Sequence[Row], settings: Sequence[Row]) -> list[Verdict]:
    """The five claims, and the control that the paper leaves out."""
    return [
        _rises(rows),
        _quarter_matches_all(rows),
        _likelihood_and_reward(rows),
        _history_helps(rows),
        _narrow(rows, settings),
        _beats_control(rows),
    ]


def _rises(rows: Sequence[Row]) -> Verdict:
    """T-SPIN gains after its first iteration, and falls back less than SPIN."""
    gains = [_greedy(row)[-1] - _greedy(row)[0] for row in rows if row["arm"] == TSPIN]
    gain = mean(gains, confidence=CONFIDENCE) if len(gains) > 1 else None
    falls = paired(rows, SPIN, TSPIN, lambda row: max(_greedy(row)) - _greedy(row)[-1])
    figures = {"T-SPIN, last minus first iteration": gain, "fall, SPIN minus T-SPIN": falls}
    return _judged(
        "1. T-SPIN rises from iteration to iteration; SPIN falls back",
        figures,
        confirmed=[_above(gain, 0), _above(falls, 0)],
        contradicted=[_below(gain, 0), _below(falls, 0)],
    )


def _quarter_matches_all(rows: Sequence[Row]) -> Verdict:
    difference = paired(rows, TSPIN, "sft", _best_greedy)
    return _judged(
        "2. T-SPIN on 25 % of the annotated data matches or beats SFT on all of it",
        {"greedy exactness, T-SPIN minus SFT on all": difference},
        confirmed=[_above(difference, -MARGIN)],
        contradicted=[_below(difference, -MARGIN)],
    )


def _likelihood_and_reward(rows: Sequence[Row]) -> Verdict:
    """T-SPIN's gaps at every iteration, and SPIN's share of rewards that likelihood belies."""
    mine = [row["iterations"] for row in rows if row["arm"] == TSPIN]
    count = max(map(len, mine), default=0)
    gaps: list[Estimate | None] = []
    for at in range(count):
        values = [
            each[at]["train/logps/annotated"] - each[at]["train/logps/synthetic"]
            for each in mine
            if len(each) > at
        ]
        gaps.append(mean(values, confidence=CONFIDENCE) if len(values) > 1 else None)
    name = "train/rewards/higher_but_less_likely"
    shares = [fmean(each[name] for each in row["iterations"]) for row in rows if row["arm"] == SPIN]
    share = mean(shares, confidence=CONFIDENCE) if len(shares) > 1 else None
    figures = {f"logp(y) - logp(y'), iteration {at}": gap for at, gap in enumerate(gaps)}
    return _judged(
        "3. Under T-SPIN logp(y) stays above logp(y'); under SPIN about half the samples have the "
        "higher reward and the lower likelihood",
        {**figures, "SPIN, share with higher reward and lower likelihood": share},
        confirmed=[
            *(_above(gap, 0) for gap in gaps),
            _above(share, HALF[0]),
            _below(share, HALF[1]),
        ],
        contradicted=[
            *(_below(gap, 0) for gap in gaps),
            _below(share, HALF[0]),
            _above(share, HALF[1]),
        ],
    )


def _history_helps(rows: Sequence[Row]) -> Verdict:
    """Progress is exactness averaged over the iterations."""
    difference = paired(rows, TSPIN, PLAIN, lambda row: fmean(_greedy(row)))
    return _judged(
        "4. Without the historical advantage progress is slower and unstable",
        {"mean greedy exactness over the iterations, with minus without": difference},
        confirmed=[_above(difference, 0)],
        contradicted=[_below(difference, 0)],
    )


def _narrow(rows: Sequence[Row], settings: Sequence[Row]) -> Verdict:
    """Every other alpha or beta lies within a narrow band around the papers' setting."""
    usual = {
        (row["skill"], row["base"], row["seed"]): _greedy(row)[-1]
        for row in rows
        if row["arm"] == TSPIN
    }
    figures: dict[str, Estimate | None] = {}
    for setting in SETTINGS if settings else ():
        values = [
            row["greedy"] - usual[row["skill"], row["base"], row["seed"]]
            for row in settings
            if row["setting"] == setting
        ]
        figures[setting] = mean(values, confidence=CONFIDENCE) if len(values) > 1 else None
    found = list(figures.values())
    return _judged(
        "5. Results move little for alpha and beta in {0.1, 0.3, 0.5, 1.0}",
        figures,
        confirmed=[_above(each, -NARROW) and _below(each, NARROW) for each in found],
        contradicted=[_below(each, -NARROW) or _above(each, NARROW) for each in found],
    )


def _beats_control(rows: Sequence[Row]) -> Verdict:
    """Better in what is taught at no loss in what is retained, or the reverse."""
    exact = paired(rows, TSPIN, CONTROL, _best_greedy)
    kept = paired(rows, TSPIN, CONTROL, lambda row: float(row["test"]["best"]["retained/greedy"]))
    better = (_above(exact, 0) and _above(kept, -MARGIN)) or (
        _above(kept, 0) and _above(exact, -MARGIN)
    )
    worse = (_below(exact, 0) and _below(kept, MARGIN)) or (
        _below(kept, 0) and _below(exact, MARGIN)
    )
    return _judged(
        "The control: T-SPIN beats SFT on the same data with the same compute",
        {"greedy exactness": exact, "retained skills": kept},
        confirmed=[better],
        contradicted=[worse],
    )


def _judged(
    claim: str,
    figures: dict[str, Estimate | None],
    *,
    confirmed: Sequence[bool],
    contradicted: Sequence[bool],
) -> Verdict:
    known = {name: asdict(each) for name, each in figures.items() if each is not None}
    word: Word = "not confirmed"
    if not known or len(known) < len(figures):
        word = "not run"
    elif all(confirmed):
        word = "confirmed"
    elif any(contradicted):
        word = "contradicted"
    return Verdict(claim, word, known)


def _greedy(row: Row) -> list[float]:
    """On validation, by iteration."""
    return [each["greedy"] for each in row["iterations"]]


def _best_greedy(row: Row) -> float:
    """On test, in the annotator's form, of the iteration that is best on validation."""
    return float(row["test"]["best"]["annotated/greedy"])


def _above(estimate: Estimate | None, bound: float) -> bool:
    return estimate is not None and estimate.low is not None and estimate.low > bound


def _below(estimate: Estimate | None, bound: float) -> bool:
    return estimate is not None and estimate.high is not None and estimate.high < bound
