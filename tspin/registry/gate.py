"""The gate of a registry: a candidate against the champion, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tspin.errors import GateRefusedError, InputError
from tspin.records.estimate import Estimate

__all__ = ["PromotionGate"]


@dataclass(frozen=True)
class PromotionGate:
    """How much better a candidate is by one metric.

    The gain's interval takes both to be measured independently: half its width is the root of the
    summed squares of their halves, as the variances of independent estimates add up. Candidate and
    champion answer the same held-out records, whose difficulty they share, so their errors are
    positively correlated and the true interval is narrower: var(a - b) = var(a) + var(b) -
    2 cov(a, b). The gate is thus rather too strict than too lenient, and a registry keeps only the
    champion's estimates, not its answers, so that nothing better could be computed here.
    (`tspin compare` has both sets of answers and pairs them, see `tspin.compare.pairing`.)
    """

    metric: str
    direction: Literal["max", "min"]
    min_gain: float
    certain: bool
    """Whether all of the interval must reach `min_gain`, or the gain alone."""
    candidate: Mapping[str, Estimate]
    champion: Mapping[str, Estimate]

    @property
    def gain(self) -> float:
        """Above 0 is better, in units of the metric."""
        new, old = self._both()
        return new.value - old.value if self.direction == "max" else old.value - new.value

    @property
    def low(self) -> float:
        """The lower end of the gain's interval."""
        reaches = [_reach(estimate) for estimate in self._both()]
        return self.gain - math.hypot(*reaches)

    def enforce(self) -> None:
        """Let the candidate pass or not.

        Raises:
            GateRefusedError: it is not good enough; with the table of numbers.
            InputError: one of them was not measured by the metric.
        """
        decisive = self.low if self.certain else self.gain
        if decisive >= self.min_gain and (self.gain > 0 or self.min_gain < 0):
            return
        threshold = f"at least {self.min_gain:g}" if self.min_gain else "a gain"
        how = "with its whole interval" if self.certain else "by value"
        raise GateRefusedError(
            f"refused: {self.metric} must have {threshold} {how}; it has {self.gain:+.4g} "
            f"(from {self.low:+.4g})\n{self.table()}"
        )

    def table(self) -> str:
        """All metrics that both have, one a line."""
        names = sorted(
            set(self.candidate) & set(self.champion), key=lambda n: (n != self.metric, n)
        )
        rows = [(name, _shown(self.champion[name]), _shown(self.candidate[name])) for name in names]
        rows.insert(0, ("metric", "champion", "candidate"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        padded = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        return "\n".join(padded)

    def _both(self) -> tuple[Estimate, Estimate]:
        for role, metrics in (("candidate", self.candidate), ("champion", self.champion)):
            if self.metric not in metrics:
                raise InputError(
                    f"metric {self.metric!r} is not among the {role}'s: "
                    f"{', '.join(sorted(metrics)) or 'it has none'}"
                )
        return self.candidate[self.metric], self.champion[self.metric]


def _reach(estimate: Estimate) -> float:
    if estimate.low is None or estimate.high is None:
        return math.inf  # A single observation: nothing is certain.
    return (estimate.high - estimate.low) / 2


def _shown(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"
