"""The study's results as Markdown: verdicts, tables with intervals, the search, the guards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from study.arms import CONTROL, TSPIN, UNTRAINED
from study.charts import mermaid_charts
from study.frontier import (
    AXES,
    advantage,
    confirmed_advantage,
    points,
    recommended,
    standings,
    wins,
)
from study.results import (
    ConfirmedRow,
    Results,
    RunRow,
    SearchRow,
    SettingRow,
    SignRow,
    TemperedRow,
)
from study.signs import SIGNS, alarm
from study.skills import SKILLS
from study.verdicts import CONFIDENCE, coupling, paired, verdicts
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
_CONFIRMED = ("annotated/greedy", "annotated/sampled", "retained/greedy")
_TEMPERED = ("temperature", "greedy", "sampled", "fitted", "nll_per_token", "nll_per_token/fitted")
_STEPS = ("proto", "generate", "triplets", "train")
"""What a run's seconds are counted of: evaluation is no cost of a method."""


def as_markdown(results: Results) -> str:
    """Everything that a protocol measured; nothing where nothing was run."""
    runs = results.runs
    units = {(row["skill"], row["base"], row["seed"]) for row in runs}
    parts = [
        f"{len(runs)} runs: {len(units)} combinations of skill, base and seed. Intervals are "
        f"{CONFIDENCE:.0%}, Student's t over these combinations.",
    ]
    of_field = results.protocol.get("name") == "field"
    parts += _field(runs) if of_field else [_verdicts(runs, results.settings)]
    against = CONTROL if of_field else TSPIN
    for skill in [name for name in SKILLS if any(row["skill"] == name for row in runs)]:
        mine = [row for row in runs if row["skill"] == skill]
        parts.append(f"### {skill}")
        for moment in ("best", "last"):
            parts += [f"Test, {moment} iteration:", _test_table(mine, moment)]
        parts += [f"Test, best iteration, minus {against}, paired:", _paired_table(mine, against)]
        parts += ["Cost of a run, means:", _cost_table(mine), *mermaid_charts(mine)]
    parts += _tempered(results.tempered)
    for base, name in results.protocol.get("searches", {}).items():
        parts += _search([row for row in results.search if row["base"] == base], base, name)
    parts += [*_confirmed(results.confirmed), *_signs(results.signs)]
    return "\n\n".join(parts) + "\n"


def _verdicts(rows: Sequence[RunRow], settings: Sequence[SettingRow]) -> str:
    lines = [
        [
            verdict.claim,
            f"**{verdict.word}**",
            "; ".join(f"{name}: {_shown(figure)}" for name, figure in verdict.figures.items()),
        ]
        for verdict in verdicts(rows, settings)
    ]
    return _table(["claim", "verdict", "figures"], lines)


def _field(rows: Sequence[RunRow]) -> Iterator[str]:
    those = standings(rows)
    yield "### Against SFT at equal retention"
    yield (
        "Test. `above SFT`: exactness minus what SFT of the same skill, base and seed reaches at "
        "the same retention, at whatever learning rate, mixtures of two policies among it. The "
        "verdict is of greedy answers after the last iteration."
    )
    lines = []
    for one in those:
        lines.append([one.skill, one.arm, *map(_shown, one.gains.values()), one.word])
    names = [f"{axis} above SFT, {at}" for at in ("best", "last") for axis in AXES.values()]
    yield _table(["skill", "method", *names, "verdict"], lines)
    yield f"Above SFT on two skills or more: {', '.join(recommended(those)) or 'none'}."
    yield "### Coupled samples"
    yield "Validation, greedy exactness, a mean over the iterations, or its fall to the last one."
    differences = [(name, one) for name, one in coupling(rows).items() if one is not None]
    yield _table(["difference", "value"], [[name, _shown(one)] for name, one in differences])


def _test_table(rows: Sequence[RunRow], moment: str) -> str:
    one = [row for row in rows if row["arm"] == _arms(rows)[0]]  # All begin with the same.
    lines = [["initial", *(_over(one, _test("base", name)) for name in _TEST)]]
    for arm in _arms(rows):
        mine = [row for row in rows if row["arm"] == arm]
        lines.append([arm, *(_over(mine, _test(moment, name)) for name in _TEST)])
    return _table(["method", *_TEST.values()], lines)


def _paired_table(rows: Sequence[RunRow], against: str) -> str:
    lines = []
    for arm in [arm for arm in _arms(rows) if arm != against]:
        differences = [paired(rows, arm, against, _test("best", name)) for name in _TEST]
        lines.append([arm, *("" if one is None else _shown(one) for one in differences)])
    return _table(["method", *_TEST.values()], lines)


def _cost_table(rows: Sequence[RunRow]) -> str:
    titles = ["method", "learning rates", "epochs", "generated", "trained", "FLOPs", "train s"]
    lines = []
    for arm in _arms(rows):
        mine = [row for row in rows if row["arm"] == arm]
        costs = [row["cost"] for row in mine]
        seconds = fmean(sum(cost["seconds"].get(step, 0.0) for step in _STEPS) for cost in costs)
        lines.append(
            [
                arm,
                ", ".join(f"{rate:g}" for rate in sorted({row["learning_rate"] for row in mine})),
                f"{fmean(row['epochs'] for row in mine):.3g}",
                f"{fmean(cost['generated_tokens'] for cost in costs):,.0f}",
                f"{fmean(cost['trained_tokens'] for cost in costs):,.0f}",
                f"{fmean(cost['flops'] for cost in costs):.3g}",
                f"{seconds:.0f}",
            ]
        )
    return _table(titles, lines)


def _tempered(rows: Sequence[TemperedRow]) -> Iterator[str]:
    if not rows:
        return
    yield "### At a temperature fitted to validation records"
    yield "Test, last iteration; `fitted` is the exactness of samples at the fitted temperature."
    lines = []
    for skill in SKILLS:
        of_skill = [row for row in rows if row["skill"] == skill]
        for arm in _arms(of_skill):
            mine = [row for row in of_skill if row["arm"] == arm]
            lines.append([skill, arm, *(_over(mine, _value(name)) for name in _TEMPERED)])
    yield _table(["skill", "method", *_TEMPERED], lines)


def _search(rows: Sequence[SearchRow], base: str, name: str) -> Iterator[str]:
    everyone = points(rows, name)
    if not everyone:
        return
    yield f"### Search for a regime in which self-play wins, on `{base}`"
    yield (
        "`greedy` and `sampled` are exactness; `above SFT` is what is left of each when what SFT "
        "reaches at the same retention, at whatever learning rate, is taken away."
    )
    axes = {f"{axis} above SFT": axis for axis in ("greedy", "sampled")}
    lines = []
    for point in everyone:
        values = [f"{value:.3f}" for value in point.values.values()]
        gains = [advantage(point, everyone, axis) for axis in axes.values()]
        shown = ["" if gain is None else f"{gain:+.3f}" for gain in gains]
        lines.append([point.skill, point.start, point.arm, *values, *shown])
    yield _table(["skill", "start", "regime", *everyone[0].values, *axes], lines)
    lines = [[arm, ", ".join(skills) or "none"] for arm, skills in wins(everyone).items()]
    yield _table(["regime", "beats the control at its best rate on"], lines)


def _confirmed(rows: Sequence[ConfirmedRow]) -> Iterator[str]:
    if not rows:
        return
    yield "### Regimes that lay above SFT, once more"
    yield (
        "Test, new seeds. `above SFT`: exactness minus what SFT of the same base and seed reaches "
        "at the same retention, at whatever learning rate, mixtures of two policies among it."
    )
    names = {f"annotated/{axis}": f"{axis} above SFT" for axis in ("greedy", "sampled")}
    lines = []
    for skill in SKILLS:
        mine = [row for row in rows if row["skill"] == skill]
        for arm in dict.fromkeys(row["arm"] for row in mine if not row["control"]):
            for moment in ("best", "last"):
                gains = [confirmed_advantage(mine, arm, moment, name) for name in names]
                lines.append([skill, arm, moment, *map(_shown, gains)])
    yield _table(["skill", "regime", "iteration", *names.values()], lines)
    yield _table(["skill", "base", "arm", *_CONFIRMED], list(_confirmed_means(rows)))


def _confirmed_means(rows: Sequence[ConfirmedRow]) -> Iterator[list[str]]:
    """By skill, base and arm: means over the seeds, last iteration; the base as it is first."""
    units = dict.fromkeys((row["skill"], row["base"]) for row in rows)
    for skill, base in units:
        mine = [row for row in rows if (row["skill"], row["base"]) == (skill, base)]
        first = [row for row in mine if row["arm"] == mine[0]["arm"]]
        arms = {UNTRAINED: [row["test"]["base"] for row in first]}
        for row in mine:
            arms.setdefault(row["arm"], []).append(row["test"]["last"])
        for arm, values in arms.items():
            means = [f"{fmean(run[name] for run in values):.3f}" for name in _CONFIRMED]
            yield [skill, base, arm, *means]


def _signs(rows: Sequence[SignRow]) -> Iterator[str]:
    if not rows:
        return
    yield "### What the guards would have told"
    lines = []
    for sign, thresholds in SIGNS.items():
        for threshold in thresholds:
            counts = alarm(rows, sign, threshold)
            caught = f"{counts.caught} of {counts.damaged}"
            lines.append([sign, f"{threshold:g}", caught, f"{counts.false} of {counts.sound}"])
    titles = ["guard", "threshold", "damaged iterations past it", "sound iterations past it"]
    yield _table(titles, lines)


def _arms(rows: Sequence[RunRow]) -> list[str]:
    """In the order of the comparison."""
    return list(dict.fromkeys(row["arm"] for row in rows))


def _test(moment: str, name: str) -> Callable[[RunRow], float]:
    return lambda row: float(row["test"][moment][name])


def _value(name: str) -> Callable[[TemperedRow], float]:
    return lambda row: float(row[name])


def _over(rows: Sequence[RunRow], value: Callable[[RunRow], float]) -> str:
    return _shown(mean([value(row) for row in rows], confidence=CONFIDENCE))


def _shown(estimate: Estimate) -> str:
    """Value (low to high)."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One line a row."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
