"""Fitting one sampling temperature to annotations, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import elementwise

from tspin.records.estimate import Estimate

__all__ = ["LIMITS", "Measure", "TemperatureFit", "fit_temperature"]

LIMITS = (0.05, 20.0)
"""The lowest and the highest temperature that is looked for."""

_NODES = 13
"""Temperatures of the first pass, which brackets the minima."""

_TOLERANCE = 1e-6
"""Of the logarithm of a temperature."""

Numbers = NDArray[np.float64]

Measure = Callable[[Numbers], Numbers]
"""From K inverse temperatures (K,) to (records, K, 3): each record's summed negative log-likelihood
in nats, its first and its second derivative (`tspin.forward.tempered`)."""


@dataclass(frozen=True)
class TemperatureFit:
    """One temperature for all records, and what such a fit is worth on records it has not seen."""

    temperature: Estimate
    """Without an interval where it is one of `LIMITS`."""
    halves: tuple[float, float]
    """Fitted on the first half of the records alone, and on the second."""
    nll: Numbers
    """(records,) nats of each record at the temperature of the half that it is not in."""


def fit_temperature(
    measure: Measure, first: NDArray[np.bool_], *, confidence: float
) -> TemperatureFit:
    """The temperature that minimises the negative log-likelihood, fitted and cross-fitted.

    The objective is convex in 1 / T, so that its minimum is where its derivative changes sign, and
    there is one. The three fits (all records, each half) share their passes: one over a grid, and
    a handful that close in on the minima.

    Args:
        measure: Makes one pass over the records.
        first: (records,) which of them are the first half; both halves have at least one.
        confidence: Of the interval of the temperature.
    """
    fits = np.stack([np.ones_like(first), first, ~first])
    inverses = _minima(measure, fits)
    measurements = measure(inverses)
    others = np.where(first, 2, 1)
    return TemperatureFit(
        _estimate(float(inverses[0]), measurements[:, 0, 1], measurements[:, 0, 2], confidence),
        (float(1 / inverses[1]), float(1 / inverses[2])),
        measurements[np.arange(len(first)), others, 0],
    )


def _minima(measure: Measure, fits: NDArray[np.bool_]) -> Numbers:
    """Inverse temperatures (fits,) from members (fits, records)."""
    logs = np.linspace(-np.log(LIMITS[1]), -np.log(LIMITS[0]), _NODES)
    rising = _slopes(measure, logs, fits) > 0
    # The first node with a rising objective; without one the minimum is the last node.
    after = np.where(rising.any(axis=1), rising.argmax(axis=1), _NODES - 1)
    minima = logs[after]
    (open_fits,) = np.nonzero(rising.any(axis=1) & (after > 0))

    def slope(at: Numbers, which: Any) -> Numbers:
        members = fits[np.asarray(which, dtype=np.intp)]
        return np.diagonal(_slopes(measure, at, members)).copy()

    if len(open_fits):
        ends = (logs[after[open_fits] - 1], logs[after[open_fits]])
        root = elementwise.find_root(
            slope, ends, args=(open_fits,), tolerances={"xatol": _TOLERANCE, "xrtol": 0}
        )
        minima[open_fits] = root.x
    return np.asarray(np.exp(minima))


def _slopes(measure: Measure, logs: Numbers, fits: NDArray[np.bool_]) -> Numbers:
    """Derivatives of each fit's objective (fits, K) at logarithms of inverse temperatures (K,)."""
    slopes = measure(np.exp(logs))[:, :, 1]
    return np.stack([slopes[members].sum(axis=0) for members in fits])


def _estimate(inverse: float, slopes: Numbers, curvatures: Numbers, confidence: float) -> Estimate:
    """The temperature with the interval of an M-estimator, symmetric in its logarithm.

    Records are the independent draws: the variance of the inverse temperature is the sum of the
    squared slopes over the squared sum of the curvatures (the sandwich; Huber 1967), with
    Student's t at n - 1 degrees of freedom.
    """
    n, value = len(slopes), 1 / inverse
    if not LIMITS[0] * 1.001 < value < LIMITS[1] / 1.001:
        return Estimate(value, None, None, n)
    error = np.sqrt(n / (n - 1) * np.square(slopes).sum()) / curvatures.sum() / inverse
    factor = float(np.exp(stats.t.ppf((1 + confidence) / 2, n - 1) * error))
    return Estimate(value, value / factor, value * factor, n)
