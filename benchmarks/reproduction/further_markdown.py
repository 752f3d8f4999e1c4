"""The result's further parts as Markdown: fitted temperatures, the search, the guards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.reproduction.frontier import found, outdone, points
from benchmarks.reproduction.judging import CONFIDENCE, Row
from benchmarks.reproduction.protocol import ARMS, UNTRAINED
from benchmarks.reproduction.signs import SIGNS, alarm
from benchmarks.reproduction.skills import SKILLS
from benchmarks.reproduction.tables import shown, table
from tspin.intervals import mean

__all__ = ["further_parts"]

_TEMPERED = ("temperature", "greedy", "sampled", "fitted", "nll_per_token", "nll_per_token/fitted")


def further_parts(result: dict[str, Any]) -> Iterator[str]:
    """What stands behind the tables of the final runs; nothing where nothing was run."""
    yield from _tempered(result.get("tempered", []))
    for base, name in result["protocol"].get("searches", {}).items():
        yield from _search([row for row in result["search"] if row["base"] == base], base, name)
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
    names = list(made[0].values)
    lines = [
        [each.skill, each.start, each.arm, *(f"{each.values[name]:.3f}" for name in names)]
        for each in made
    ]
    yield table(["skill", "start", "regime", *names], lines)
    lost = outdone(made)
    lines = [
        [arm, ", ".join(skills) or "none", ", ".join(lost[arm]) or "none"]
        for arm, skills in found(made).items()
    ]
    titles = ["regime", "beats the control at its best rate on"]
    titles += ["SFT, or the base as it is, is nowhere worse on"]
    yield table(titles, lines)


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
