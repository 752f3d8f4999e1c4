"""What supervised fine-tuning reaches while it keeps as much: exactness against retention."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["reached"]


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
