"""The verdict on each claim of the paper, by rules that stand in docs/reproduction.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from benchmarks.reproduction.judging import (
    CONFIDENCE,
    Row,
    Verdict,
    above,
    below,
    judged,
    paired,
)
from benchmarks.reproduction.protocol import CONTROL, SETTINGS, SHARE, TSPIN
from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate

__all__ = ["PLAIN", "SPIN", "verdicts"]

MARGIN = 0.02
"""Claim 2: how much worse still counts as a match."""
NARROW = 0.05
"""Claim 5: how far other settings may lie from the papers'."""
HALF = (0.35, 0.65)
"""Claim 3: what counts as about half."""
PLAIN, SPIN = f"tspin_no_history@{SHARE}", f"spin@{SHARE}"


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
    return judged(
        "1. T-SPIN rises from iteration to iteration; SPIN falls back",
        figures,
        confirmed=[above(gain, 0), above(falls, 0)],
        contradicted=[below(gain, 0), below(falls, 0)],
    )


def _quarter_matches_all(rows: Sequence[Row]) -> Verdict:
    difference = paired(rows, TSPIN, "sft", _best_greedy)
    return judged(
        "2. T-SPIN on 25 % of the annotated data matches or beats SFT on all of it",
        {"greedy exactness, T-SPIN minus SFT on all": difference},
        confirmed=[above(difference, -MARGIN)],
        contradicted=[below(difference, -MARGIN)],
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
    return judged(
        "3. Under T-SPIN logp(y) stays above logp(y'); under SPIN about half the samples have the "
        "higher reward and the lower likelihood",
        {**figures, "SPIN, share with higher reward and lower likelihood": share},
        confirmed=[
            *(above(gap, 0) for gap in gaps),
            above(share, HALF[0]),
            below(share, HALF[1]),
        ],
        contradicted=[
            *(below(gap, 0) for gap in gaps),
            below(share, HALF[0]),
            above(share, HALF[1]),
        ],
    )


def _history_helps(rows: Sequence[Row]) -> Verdict:
    """Progress is exactness averaged over the iterations."""
    difference = paired(rows, TSPIN, PLAIN, lambda row: fmean(_greedy(row)))
    return judged(
        "4. Without the historical advantage progress is slower and unstable",
        {"mean greedy exactness over the iterations, with minus without": difference},
        confirmed=[above(difference, 0)],
        contradicted=[below(difference, 0)],
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
    return judged(
        "5. Results move little for alpha and beta in {0.1, 0.3, 0.5, 1.0}",
        figures,
        confirmed=[above(each, -NARROW) and below(each, NARROW) for each in found],
        contradicted=[below(each, -NARROW) or above(each, NARROW) for each in found],
    )


def _beats_control(rows: Sequence[Row]) -> Verdict:
    """Better in what is taught at no loss in what is retained, or the reverse."""
    exact = paired(rows, TSPIN, CONTROL, _best_greedy)
    kept = paired(rows, TSPIN, CONTROL, lambda row: float(row["test"]["best"]["retained/greedy"]))
    better = (above(exact, 0) and above(kept, -MARGIN)) or (
        above(kept, 0) and above(exact, -MARGIN)
    )
    worse = (below(exact, 0) and below(kept, MARGIN)) or (below(kept, 0) and below(exact, MARGIN))
    return judged(
        "The control: T-SPIN beats SFT on the same data with the same compute",
        {"greedy exactness": exact, "retained skills": kept},
        confirmed=[better],
        contradicted=[worse],
    )


def _greedy(row: Row) -> list[float]:
    """On validation, by iteration."""
    return [each["greedy"] for each in row["iterations"]]


def _best_greedy(row: Row) -> float:
    """On test, in the annotator's form, of the iteration that is best on validation."""
    return float(row["test"]["best"]["annotated/greedy"])
