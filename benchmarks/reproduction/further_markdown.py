"""The result's further parts as Markdown: fitted temperatures, the search, the guards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from benchmarks.reproduction.confirming import above
from benchmarks.reproduction.frontier import advantage, found, points
from benchmarks.reproduction.judging import CONFIDENCE, Row
from benchmarks.reproduction.protocol import ARMS, UNTRAINED
from benchmarks.reproduction.signs import SIGNS, alarm
from benchmarks.reproduction.skills import SKILLS
from benchmarks.reproduction.tables import shown, table
from tspin.evaluate.intervals import mean

__all__ = ["further_parts"]

_CONFIRMED = ("annotated/greedy", "annotated/sampled", "retained/greedy")
_TEMPERED = ("temperature", "greedy", "sampled", "fitted", "nll_per_token", "nll_per_token/fitted")


def further_parts(result: dict[str, Any]) -> Iterator[str]:
    """What stands behind the tables of the final runs; nothing where nothing was run."""
    yield from _tempered(result.get("tempered", []))
    for base, name in result["protocol"].get("searches", {}).items():
        yield from _search([row for row in result["search"] if row["base"] == base], base, name)
    yield from _confirmed(result.get("confirmed", []))
    yield from _signs(result.get("signs", []))


def _tempered(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "### At a temperature fitted to validation records"
    yield "Test, last iteration; `fitted` is the exactness of samples at the fitted temperature."
    lines = []
    for skill in SKILLS:
        for arm in (UNTRAINED, *ARMS):
            mine = [row for row in rows if (row["skill"], row["arm"]) == (skill, arm)]
            if mine:
                lines.append([skill, arm, *(_over(mine, _of(name)) for name in _TEMPERED)])
    yield table(["skill", "method", *_TEMPERED], lines)


def _of(name: str) -> Callable[[Row], float]:
    return lambda row: float(row[name])


def _over(rows: Sequence[Row], value: Callable[[Row], float]) -> str:
    return shown(mean([value(row) for row in rows], confidence=CONFIDENCE))


def _search(rows: Sequence[Row], base: str, name: str) -> Iterator[str]:
    made = points(rows, name)
    if not made:
        return
    yield f"### Search for a regime in which self-play wins, on `{base}`"
    yield (
        "`greedy` and `sampled` are exactness; `above SFT` is what is left of each when what SFT "
        "reaches at the same retention, at whatever learning rate, is taken away."
    )
    names = list(made[0].values)
    above = {f"{axis} above SFT": axis for axis in ("greedy", "sampled")}
    lines = []
    for each in made:
        found_here = [f"{each.values[name]:.3f}" for name in names]
        gains = [advantage(each, made, axis) for axis in above.values()]
        told = ["" if gain is None else f"{gain:+.3f}" for gain in gains]
        lines.append([each.skill, each.start, each.arm, *found_here, *told])
    yield table(["skill", "start", "regime", *names, *above], lines)
    lines = [[arm, ", ".join(skills) or "none"] for arm, skills in found(made).items()]
    yield table(["regime", "beats the control at its best rate on"], lines)


def _confirmed(rows: Sequence[Row]) -> Iterator[str]:
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
                gains = [shown(above(mine, arm, moment, name)) for name in names]
                lines.append([skill, arm, moment, *gains])
    yield table(["skill", "regime", "iteration", *names.values()], lines)
    yield table(["skill", "base", "arm", *_CONFIRMED], list(_means(rows)))


def _means(rows: Sequence[Row]) -> Iterator[list[str]]:
    """By skill, base and arm: means over the seeds, last iteration; the base as it is first."""
    units = dict.fromkeys((row["skill"], row["base"]) for row in rows)
    for skill, base in units:
        mine = [row for row in rows if (row["skill"], row["base"]) == (skill, base)]
        first = [row for row in mine if row["arm"] == mine[0]["arm"]]
        arms = {UNTRAINED: [row["test"]["base"] for row in first]}
        for row in mine:
            arms.setdefault(row["arm"], []).append(row["test"]["last"])
        for arm, values in arms.items():
            told = [f"{fmean(each[name] for each in values):.3f}" for name in _CONFIRMED]
            yield [skill, base, arm, *told]


def _signs(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "### What the guards would have told"
    lines = []
    for sign, thresholds in SIGNS.items():
        for threshold in thresholds:
            told = alarm(rows, sign, threshold)
            caught, false = f"{told.caught} of {told.damaged}", f"{told.false} of {told.sound}"
            lines.append([sign, f"{threshold:g}", caught, false])
    titles = ["guard", "threshold", "damaged iterations past it", "sound iterations past it"]
    yield table(titles, lines)
