"""The study's result as Markdown: verdicts, tables with intervals, figures as Mermaid charts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from benchmarks.reproduction.further_markdown import further_parts
from benchmarks.reproduction.judging import CONFIDENCE, Row, paired
from benchmarks.reproduction.protocol import ARMS, TSPIN
from benchmarks.reproduction.skills import SKILLS
from benchmarks.reproduction.tables import shown, table
from tspin.evaluate.intervals import mean
from tspin.records.estimate import Estimate

__all__ = ["as_markdown"]

_TEST = {
    "annotated/greedy": "greedy",
    "annotated/sampled": "sampled",
    "right/greedy": "right, greedy",
    "nll_per_token": "NLL",
    "retained/greedy": "retained, greedy",
    "retained/sampled": "retained, sampled",
    "retained/nll_per_token": "retained NLL",
    "distinct_bigrams": "distinct bigrams",
    "differs_from_greedy": "not greedy",
}
_CHARTS = {
    "greedy": "Greedy exactness on validation",
    "sampled": "Sampled exactness on validation",
    "nll_per_token": "Negative log-likelihood of a token on validation, nats",
    "margins/annotated_synthetic": "logp(y) - logp(y') on validation, nats",
    "margins/synthetic_proto_synthetic": "logp(y') - logp(y0) on validation, nats",
    "train/rewards/higher_but_less_likely": "Share with higher reward and lower likelihood",
    "train/rewards/saturated": "Share of saturated samples",
    "response_tokens/sampled": "Tokens of a sampled response on validation",
}


def as_markdown(result: dict[str, Any]) -> str:
    """The page's part that a run of the study fills in.

    Args:
        result: `protocol`, `rows`, `settings` and `verdicts`, as `python -m
            benchmarks.reproduction` writes them.
    """
    rows: list[Row] = result["rows"]
    units = {(row["skill"], row["base"], row["seed"]) for row in rows}
    parts = [
        f"{len(rows)} runs: {len(units)} combinations of skill, base and seed. Intervals are "
        f"{CONFIDENCE:.0%}, Student's t over these combinations.",
        *_verdicts(result["verdicts"]),
    ]
    for skill in [name for name in SKILLS if any(row["skill"] == name for row in rows)]:
        mine = [row for row in rows if row["skill"] == skill]
        parts.append(f"### {skill}")
        for moment in ("best", "last"):
            parts += [f"Test, {moment} iteration:", _test_table(mine, moment)]
        parts += [f"Test, best iteration, minus {TSPIN}, paired:", _paired_table(mine)]
        parts += ["Cost of a run, means:", _cost_table(mine), *_charts(mine)]
    parts += further_parts(result)
    return "\n\n".join(parts) + "\n"


def _verdicts(verdicts: Sequence[dict[str, Any]]) -> Iterator[str]:
    rows = [
        [
            each["claim"],
            f"**{each['word']}**",
            "; ".join(f"{name}: {shown(Estimate(**e))}" for name, e in each["figures"].items()),
        ]
        for each in verdicts
    ]
    yield table(["claim", "verdict", "figures"], rows)


def _test_table(rows: Sequence[Row], moment: str) -> str:
    one = [row for row in rows if row["arm"] == _arms(rows)[0]]  # All begin with the same.
    lines = [["initial", *(_over(one, _test("base", name)) for name in _TEST)]]
    for arm in _arms(rows):
        mine = [row for row in rows if row["arm"] == arm]
        lines.append([arm, *(_over(mine, _test(moment, name)) for name in _TEST)])
    return table(["method", *_TEST.values()], lines)


def _paired_table(rows: Sequence[Row]) -> str:
    lines = []
    for arm in [arm for arm in _arms(rows) if arm != TSPIN]:
        found = [paired(rows, arm, TSPIN, _test("best", name)) for name in _TEST]
        lines.append([arm, *("" if each is None else shown(each) for each in found)])
    return table(["method", *_TEST.values()], lines)


def _cost_table(rows: Sequence[Row]) -> str:
    titles = ["method", "learning rates", "epochs", "generated", "trained", "FLOPs", "train s"]
    lines = []
    for arm in _arms(rows):
        mine = [row for row in rows if row["arm"] == arm]
        cost = [row["cost"] for row in mine]
        steps = ("proto", "generate", "triplets", "train")
        seconds = fmean(sum(each["seconds"].get(step, 0.0) for step in steps) for each in cost)
        lines.append(
            [
                arm,
                ", ".join(f"{rate:g}" for rate in sorted({row["learning_rate"] for row in mine})),
                f"{fmean(row['epochs'] for row in mine):.3g}",
                f"{fmean(each['generated_tokens'] for each in cost):,.0f}",
                f"{fmean(each['trained_tokens'] for each in cost):,.0f}",
                f"{fmean(each['flops'] for each in cost):.3g}",
                f"{seconds:.0f}",
            ]
        )
    return table(titles, lines)


def _charts(rows: Sequence[Row]) -> Iterator[str]:
    """One line a method; Mermaid has no legend, so the title names them in order."""
    for name, title in _CHARTS.items():
        lines: dict[str, list[float]] = {}
        for arm in _arms(rows):
            runs = [row["iterations"] for row in rows if row["arm"] == arm]
            count = min(map(len, runs))
            if all(name in run[at] for run in runs for at in range(count)):
                lines[arm] = [fmean(run[at][name] for run in runs) for at in range(count)]
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


def _arms(rows: Sequence[Row]) -> list[str]:
    return [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]


def _test(moment: str, name: str) -> Callable[[Row], float]:
    return lambda row: float(row["test"][moment][name])


def _over(rows: Sequence[Row], value: Callable[[Row], float]) -> str:
    return shown(mean([value(row) for row in rows], confidence=CONFIDENCE))
