"""What held-out answers betray that the gate's metric does not: samples get worse, greedy holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tspin.records.estimate import Estimate

__all__ = ["sampled_drops"]

_SAMPLED, _GREEDY = "/sampled", "/greedy"


def sampled_drops(played: Sequence[Mapping[str, Estimate]], threshold: float) -> list[str]:
    """Where the last policy's samples are right less often than an earlier policy's were.

    Only a fall that the intervals of both tell from none counts, and only where greedy exactness
    has not fallen half as far: a policy that is worse altogether is what the gate is for.

    Args:
        played: Metrics on the held-out records by policy, in order; the last one is looked at.
        threshold: Smallest fall of a share, `train.guards.sampled_drop`.

    Returns:
        A sentence for each extractor whose sampled exactness has fallen.
    """
    if not played:
        return []
    last = played[-1]
    told = []
    for name in [name for name in last if name.startswith("exact_match/")]:
        rule, mode, _ = name.rpartition(_SAMPLED)
        greedy = rule + _GREEDY
        before = [metrics for metrics in played[:-1] if name in metrics and greedy in metrics]
        if not mode or greedy not in last or not before:
            continue
        best = max(before, key=lambda metrics: metrics[name].value)
        fall = best[name].value - last[name].value
        greedy_fall = best[greedy].value - last[greedy].value
        if fall > threshold and greedy_fall < fall / 2 and _apart(last[name], best[name]):
            told.append(
                f"sampled exactness ({rule.removeprefix('exact_match/')}) has fallen from "
                f"{best[name].value:.1%} to {last[name].value:.1%} while greedy went from "
                f"{best[greedy].value:.1%} to {last[greedy].value:.1%}: likelihood leaves right "
                "answers. Lower train.learning_rate, keep an earlier iteration, or sample at a "
                "lower temperature [train.guards.sampled_drop]"
            )
    return told


def _apart(lower: Estimate, higher: Estimate) -> bool:
    return lower.high is not None and higher.low is not None and lower.high < higher.low
