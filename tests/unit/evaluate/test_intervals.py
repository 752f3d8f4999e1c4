"""Intervals against numbers worked out by hand and against their own promise of coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tspin.evaluate.intervals import from_error, mean, rate, ratio

Z95 = 1.959963984540054


def test_wilson_by_hand() -> None:
    """k=8, n=10: centre (k + z^2/2)/(n + z^2), reach z/(n + z^2) * sqrt(k(n-k)/n + z^2/4)."""
    z2 = Z95**2
    centre = (8 + z2 / 2) / (10 + z2)
    reach = Z95 / (10 + z2) * math.sqrt(8 * 2 / 10 + z2 / 4)
    estimate = rate(8, 10, confidence=0.95)
    assert estimate.value == 0.8
    assert estimate.n == 10
    assert (estimate.low, estimate.high) == pytest.approx((centre - reach, centre + reach))
    assert (estimate.low, estimate.high) == pytest.approx((0.49016, 0.94331), abs=1e-5)


def test_none_and_all_are_not_certain() -> None:
    nothing, everything = rate(0, 20, confidence=0.95), rate(20, 20, confidence=0.95)
    assert (nothing.value, nothing.low, everything.value, everything.high) == (0, 0, 1, 1)
    assert nothing.high is not None
    assert nothing.high == pytest.approx(Z95**2 / (20 + Z95**2))
    assert everything.low == pytest.approx(1 - nothing.high)


def test_mean_by_hand() -> None:
    """1, 2, 3, 4: mean 2.5, standard deviation sqrt(5/3), t(0.975, 3) = 3.182446."""
    reach = 3.182446305284263 * math.sqrt(5 / 3) / 2
    estimate = mean([1.0, 2.0, 3.0, 4.0], confidence=0.95)
    assert estimate.value == 2.5
    assert (estimate.low, estimate.high) == pytest.approx((2.5 - reach, 2.5 + reach))


def test_ratio_by_hand() -> None:
    """Totals 2, 8 over weights 1, 3: ratio 10/4 = 2.5, residuals -0.5 and 0.5.

    Standard error sqrt(2/1 * 0.5)/4 = 0.25, t(0.95, 1) = 6.313752 for 90%.
    """
    estimate = ratio([2.0, 8.0], [1, 3], confidence=0.9)
    assert estimate.value == 2.5
    reach = 6.313751514675041 * 0.25
    assert (estimate.low, estimate.high) == pytest.approx((2.5 - reach, 2.5 + reach))


def test_one_observation_has_no_interval() -> None:
    assert mean([3.0], confidence=0.95).as_json() == {
        "value": 3.0,
        "low": None,
        "high": None,
        "n": 1,
    }


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.sampled_from([0.5, 0.95]))
def test_mean_agrees_with_scipy(values: list[float], confidence: float) -> None:
    estimate = mean(values, confidence=confidence)
    error = stats.sem(values)
    low, high = stats.t.interval(confidence, len(values) - 1, np.mean(values), error or 1e-300)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


@given(st.integers(1, 500), st.data())
def test_a_rate_lies_in_its_interval_and_that_in_0_to_1(n: int, data: st.DataObject) -> None:
    estimate = rate(data.draw(st.integers(0, n)), n, confidence=0.95)
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_the_ratio_interval_covers_the_truth_as_often_as_it_says() -> None:
    """4,000 samples of 40 records whose long records have the higher nats per token."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 100, size=(4000, 40))
    nats = tokens * (1 + tokens / 100) + generator.normal(0, 5, size=tokens.shape)
    lengths = np.arange(5, 100)
    truth = float((lengths * (1 + lengths / 100)).sum() / lengths.sum())
    estimates = [ratio(n, t, confidence=0.95) for n, t in zip(nats, tokens, strict=True)]
    covered = np.mean([(e.low or 0) <= truth <= (e.high or 0) for e in estimates])
    assert 0.93 < covered < 0.97


def test_a_standard_error_gives_the_normal_interval() -> None:
    found = from_error(12.5, 0.5, 30, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((12.5 - Z95 * 0.5, 12.5 + Z95 * 0.5))
    for unknown in (
        from_error(0.5, None, 30, confidence=0.95),
        from_error(1, 0.1, 1, confidence=0.95),
    ):
        assert (unknown.low, unknown.high) == (None, None)


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_yes_and_no_are_known_by_their_standard_error(outcomes: list[bool]) -> None:
    """What was a rate keeps Wilson's interval, so that 0 of n is not certain."""
    error = float(np.std(outcomes, ddof=1) / math.sqrt(len(outcomes)))
    found = from_error(sum(outcomes) / len(outcomes), error, len(outcomes), confidence=0.9)
    assert found == rate(sum(outcomes), len(outcomes), confidence=0.9)


def test_shares_that_are_not_yes_or_no_are_no_rate() -> None:
    """Scores of 0.5 vary less than their mean would as a rate of yes and no."""
    scores = [0.5, 0.5, 1.0, 0.0]
    error = float(np.std(scores, ddof=1) / 2)
    found = from_error(0.5, error, 4, confidence=0.95)
    assert found.high == pytest.approx(0.5 + Z95 * error)
