"""The verdict on each claim of the paper: differences that pair, intervals against bounds, a word.

The rules stand in words in study/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from study.arms import CONTROL, SHARE, TSPIN
from study.protocol import SETTINGS
from study.results import RunRow, SettingRow
from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate

__all__ = ["CONFIDENCE", "PLAIN", "SPIN", "Verdict", "Word", "coupling", "paired", "verdicts"]

Word = Literal["confirmed", "not confirmed", "contradicted", "not run"]

CONFIDENCE = 0.95
MATCH = 0.02
"""Claim 2: how much worse still counts as a match; the control: what counts as no loss."""
NARROW = 0.05
"""Claim 5: how far other settings may lie from the papers'."""
HALF = (0.35, 0.65)
"""Claim 3: what counts as about half."""
PLAIN, SPIN = f"tspin_no_history@{SHARE}", f"spin@{SHARE}"


@dataclass(frozen=True)
class Verdict:
    """One claim with its figures."""

    claim: str
    word: Word
    figures: dict[str, Estimate]


def verdicts(rows: Sequence[RunRow], settings: Sequence[SettingRow]) -> list[Verdict]:
    """The five claims, and the control that the paper leaves out."""
    return [
        _rises(rows),
        _quarter_matches_all(rows),
        _likelihood_and_reward(rows),
        _history_helps(rows),
        _narrow(rows, settings),
        _beats_control(rows),
    ]


def paired(
    rows: Sequence[RunRow], arm: str, other: str, value: Callable[[RunRow], float]
) -> Estimate | None:
    """Mean difference of two methods over skills, bases and seeds.

    Args:
        rows: Final runs.
        arm: A method.
        other: Another one, whose value is taken away.
        value: What of a run is compared.

    Returns:
        The estimate; None below two pairs.
    """
    pairs: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in rows:
        if row["arm"] in (arm, other):
            unit = (row["skill"], row["base"], row["seed"])
            pairs.setdefault(unit, {})[row["arm"]] = value(row)
    return _mean([pair[arm] - pair[other] for pair in pairs.values() if len(pair) == 2])


def _judged(
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
    estimates = {name: estimate for name, estimate in figures.items() if estimate is not None}
    word: Word = "not confirmed"
    if not estimates or len(estimates) < len(figures):
        word = "not run"
    elif all(confirmed):
        word = "confirmed"
    elif any(contradicted):
        word = "contradicted"
    return Verdict(claim, word, estimates)


def _rises(rows: Sequence[RunRow]) -> Verdict:
    """T-SPIN gains after its first iteration, and falls back less than SPIN."""
    gain = _mean([_greedy(row)[-1] - _greedy(row)[0] for row in rows if row["arm"] == TSPIN])
    falls = paired(rows, SPIN, TSPIN, _fall)
    figures = {"T-SPIN, last minus first iteration": gain, "fall, SPIN minus T-SPIN": falls}
    return _judged(
        "1. T-SPIN rises from iteration to iteration; SPIN falls back",
        figures,
        confirmed=[_above(gain, 0), _above(falls, 0)],
        contradicted=[_below(gain, 0), _below(falls, 0)],
    )


def _quarter_matches_all(rows: Sequence[RunRow]) -> Verdict:
    difference = paired(rows, TSPIN, "sft", _best_greedy)
    return _judged(
        "2. T-SPIN on 25 % of the annotated data matches or beats SFT on all of it",
        {"greedy exactness, T-SPIN minus SFT on all": difference},
        confirmed=[_above(difference, -MATCH)],
        contradicted=[_below(difference, -MATCH)],
    )


def _likelihood_and_reward(rows: Sequence[RunRow]) -> Verdict:
    """T-SPIN's gaps at every iteration, and SPIN's share of rewards that likelihood belies."""
    runs = [row["iterations"] for row in rows if row["arm"] == TSPIN]
    gaps = [
        _mean(
            [
                run[at]["train/logps/annotated"] - run[at]["train/logps/synthetic"]
                for run in runs
                if len(run) > at
            ]
        )
        for at in range(max(map(len, runs), default=0))
    ]
    name = "train/rewards/higher_but_less_likely"
    share = _mean(
        [fmean(step[name] for step in row["iterations"]) for row in rows if row["arm"] == SPIN]
    )
    figures = {f"logp(y) - logp(y'), iteration {at}": gap for at, gap in enumerate(gaps)}
    within = [_above(share, HALF[0]), _below(share, HALF[1])]
    outside = [_below(share, HALF[0]), _above(share, HALF[1])]
    return _judged(
        "3. Under T-SPIN logp(y) stays above logp(y'); under SPIN about half the samples have the "
        "higher reward and the lower likelihood",
        {**figures, "SPIN, share with higher reward and lower likelihood": share},
        confirmed=[*(_above(gap, 0) for gap in gaps), *within],
        contradicted=[*(_below(gap, 0) for gap in gaps), *outside],
    )


def _history_helps(rows: Sequence[RunRow]) -> Verdict:
    """Progress is exactness averaged over the iterations."""
    difference = paired(rows, TSPIN, PLAIN, _progress)
    return _judged(
        "4. Without the historical advantage progress is slower and unstable",
        {"mean greedy exactness over the iterations, with minus without": difference},
        confirmed=[_above(difference, 0)],
        contradicted=[_below(difference, 0)],
    )


def _narrow(rows: Sequence[RunRow], settings: Sequence[SettingRow]) -> Verdict:
    """Every other alpha or beta lies within a narrow band around the papers' setting."""
    usual = {
        (row["skill"], row["base"], row["seed"]): _greedy(row)[-1]
        for row in rows
        if row["arm"] == TSPIN
    }
    figures = {
        setting: _mean(
            [
                row["greedy"] - usual[row["skill"], row["base"], row["seed"]]
                for row in settings
                if row["setting"] == setting
            ]
        )
        for setting in (SETTINGS if settings else ())
    }
    differences = list(figures.values())
    return _judged(
        "5. Results move little for alpha and beta in {0.1, 0.3, 0.5, 1.0}",
        figures,
        confirmed=[_above(one, -NARROW) and _below(one, NARROW) for one in differences],
        contradicted=[_below(one, -NARROW) or _above(one, NARROW) for one in differences],
    )


def _beats_control(rows: Sequence[RunRow]) -> Verdict:
    """Better in what is taught at no loss in what is retained, or the reverse."""
    exact = paired(rows, TSPIN, CONTROL, _best_greedy)
    kept = paired(rows, TSPIN, CONTROL, lambda row: float(row["test"]["best"]["retained/greedy"]))
    better = (_above(exact, 0) and _above(kept, -MATCH)) or (
        _above(kept, 0) and _above(exact, -MATCH)
    )
    worse = (_below(exact, 0) and _below(kept, MATCH)) or (_below(kept, 0) and _below(exact, MATCH))
    return _judged(
        "The control: T-SPIN beats SFT on the same data with the same compute",
        {"greedy exactness": exact, "retained skills": kept},
        confirmed=[better],
        contradicted=[worse],
    )


def coupling(rows: Sequence[RunRow]) -> dict[str, Estimate | None]:
    """What the same noise in every iteration changes of claims 1 and 4, on validation."""
    plain, spin = "no_history_coupled", "spin_coupled"
    return {
        "claim 4, with history minus without": paired(rows, TSPIN, PLAIN, _progress),
        "claim 4, the same, both coupled": paired(rows, "tspin_coupled", plain, _progress),
        "T-SPIN, coupled minus not": paired(rows, "tspin_coupled", TSPIN, _progress),
        "T-SPIN without history, coupled minus not": paired(rows, plain, PLAIN, _progress),
        "SPIN, coupled minus not": paired(rows, spin, SPIN, _progress),
        "claim 1, fall, SPIN minus T-SPIN": paired(rows, SPIN, TSPIN, _fall),
        "claim 1, the same, both coupled": paired(rows, spin, "tspin_coupled", _fall),
    }


def _mean(values: Sequence[float]) -> Estimate | None:
    """With its interval; None where a single value says nothing about the spread."""
    return mean(values, confidence=CONFIDENCE) if len(values) > 1 else None


def _greedy(row: RunRow) -> list[float]:
    """On validation, by iteration."""
    return [iteration["greedy"] for iteration in row["iterations"]]


def _best_greedy(row: RunRow) -> float:
    """On test, in the annotator's form, of the iteration that is best on validation."""
    return float(row["test"]["best"]["annotated/greedy"])


def _above(estimate: Estimate | None, bound: float) -> bool:
    """Whether the whole interval is above."""
    return estimate is not None and estimate.low is not None and estimate.low > bound


def _below(estimate: Estimate | None, bound: float) -> bool:
    """Whether the whole interval is below."""
    return estimate is not None and estimate.high is not None and estimate.high < bound


def _progress(row: RunRow) -> float:
    """Greedy exactness, a mean over the iterations."""
    return fmean(_greedy(row))


def _fall(row: RunRow) -> float:
    """Of greedy exactness, from its best iteration to the last."""
    return max(_greedy(row)) - _greedy(row)[-1]
