"""Estimates with confidence intervals: rates, means, ratios of totals. Nothing random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from tspin.records.estimate import Estimate

__all__ = ["from_error", "mean", "rate", "ratio"]


def rate(successes: int, n: int, *, confidence: float) -> Estimate:
    """A share of n independent yes-or-no outcomes with Wilson's score interval.

    It stays within [0, 1] and keeps a width at 0 of n and n of n, where the normal
    approximation claims certainty (Wilson 1927; Brown, Cai and DasGupta 2001).

    Args:
        successes: How many were a yes.
        n: How many there were, at least 1.
        confidence: Such as 0.95.
    """
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mean(values: Sequence[float], *, confidence: float) -> Estimate:
    """The mean of at least one value with Student's t interval, in the values' unit."""
    return ratio(values, [1] * len(values), confidence=confidence)


def ratio(
    totals: Sequence[float], weights: Sequence[float] | Sequence[int], *, confidence: float
) -> Estimate:
    """sum(totals) / sum(weights), such as nats per token over records of unequal length.

    Records, not tokens, are the independent draws, so the interval comes from the linearised
    ratio estimator (Cochran, Sampling Techniques, 1977, section 6.4): the variance of
    `total - ratio * weight` over records, with Student's t at n - 1 degrees of freedom. With
    all weights equal to 1 this is the usual interval of a mean.

    Args:
        totals: Per record, such as summed negative log-probabilities; shape (n,), n >= 1.
        weights: Per record, such as token counts; shape (n,), with a sum above 0.
        confidence: Such as 0.95.
    """
    totals_n = np.asarray(totals, dtype=np.float64)
    weights_n = np.asarray(weights, dtype=np.float64)
    n = totals_n.size
    value = float(totals_n.sum() / weights_n.sum())
    if n < 2:
        return Estimate(value, None, None, n)
    residuals_n = totals_n - value * weights_n
    error = float(np.sqrt(n / (n - 1) * np.square(residuals_n).sum()) / weights_n.sum())
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Estimate(value, value - reach, value + reach, n)


def from_error(value: float, error: float | None, n: int, *, confidence: float) -> Estimate:
    """A value whose standard error somebody else computed, with the normal interval.

    Where value and error can only be those of n yes-or-no outcomes, the interval is that of
    `rate`, which keeps a width at 0 of n and n of n: for numbers in [0, 1] the sample variance is
    at most n / (n - 1) value (1 - value), and reaches it exactly if each is 0 or 1.

    Args:
        value: In any unit.
        error: In the same; None if it is not known.
        n: Observations, at least 1.
        confidence: Such as 0.95.
    """
    if error is None or n < 2:
        return Estimate(value, None, None, n)
    if 0 <= value <= 1 and np.isclose(error, np.sqrt(value * (1 - value) / (n - 1)), rtol=1e-9):
        return rate(round(value * n), n, confidence=confidence)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Estimate(value, value - reach, value + reach, n)
