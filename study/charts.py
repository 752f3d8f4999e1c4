"""What happened iteration by iteration: a line a method, as Mermaid charts in the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from study.protocol import ARMS
from study.results import RunRow

__all__ = ["curves", "mermaid_charts"]

_TITLES = {
    "greedy": "Greedy exactness on validation",
    "sampled": "Sampled exactness on validation",
    "nll_per_token": "Negative log-likelihood of a token on validation, nats",
    "margins/annotated_synthetic": "logp(y) - logp(y') on validation, nats",
    "margins/synthetic_proto_synthetic": "logp(y') - logp(y0) on validation, nats",
    "train/rewards/higher_but_less_likely": "Share with higher reward and lower likelihood",
    "train/rewards/saturated": "Share of saturated samples",
    "response_tokens/sampled": "Tokens of a sampled response on validation",
}


def curves(rows: Sequence[RunRow], metric: str) -> dict[str, list[float]]:
    """By method that has the metric: its mean over the runs, iteration by iteration."""
    lines: dict[str, list[float]] = {}
    for arm in [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]:
        runs = [row["iterations"] for row in rows if row["arm"] == arm]
        count = min(map(len, runs))
        if all(metric in run[at] for run in runs for at in range(count)):
            lines[arm] = [fmean(run[at][metric] for run in runs) for at in range(count)]
    return lines


def mermaid_charts(rows: Sequence[RunRow]) -> Iterator[str]:
    """One line a method; Mermaid has no legend, so a sentence below names them in order."""
    for metric, title in _TITLES.items():
        lines = curves(rows, metric)
        if not lines:
            continue
        count = max(map(len, lines.values()))
        chart = ["```mermaid", "xychart-beta", f'    title "{title}"']
        chart.append(f"    x-axis iteration [{', '.join(map(str, range(count)))}]")
        chart += [
            f"    line [{', '.join(f'{value:.4g}' for value in values)}]"
            for values in lines.values()
        ]
        yield "\n".join([*chart, "```"])
        yield f"Lines in this order: {', '.join(lines)}."
