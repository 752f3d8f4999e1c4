"""The search for regimes in which self-play wins, on validation, and once more on test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.arms import SHARE, START, UNTRAINED
from study.measurements import finished_runs, kept_skills, on_test, validation_values
from study.protocol import Cell
from study.regimes import (
    CONFIRMED,
    CONFIRMING_SEEDS,
    KNOWN_FORM,
    SEARCH_SEEDS,
    SEARCHES,
    Part,
    Regime,
)
from study.results import ConfirmedRow, SearchRow
from study.skills import Split
from study.stages import Study
from tspin.compare.arms import Arm
from tspin.compare.folders import ComparisonFolder
from tspin.records.records import AnnotatedRecord, read_records, write_records
from tspin.runs.folder import BASE, RunFolder

__all__ = ["collect_confirmed", "collect_search", "confirm", "search"]


def search(study: Study, cell: Cell) -> None:
    """Every regime from every seed of the search: from the base, then what is started otherwise."""
    if cell.base not in study.protocol.searches:
        return
    plan = SEARCHES[study.protocol.searches[cell.base]]
    seeds = ",".join(map(str, SEARCH_SEEDS))
    from_base = {**plan.from_base, START: Regime(START)}
    _play_regimes(study, cell, study.search(cell), from_base, ["--seeds", seeds])
    for name, part in plan.parts.items():
        for seed in SEARCH_SEEDS:
            options = ["--seeds", str(seed), *_start(study, cell, part, seed)]
            out = study.search(cell, f"{name}-{seed}")
            _play_regimes(study, cell, out, part.regimes, options)


def _start(study: Study, cell: Cell, part: Part, seed: int) -> list[str]:
    """Options for the policy and the records that the regimes of a part begin with."""
    options = []
    if part.policy is not None:
        run = RunFolder(study.search(cell) / f"seed-{seed}" / part.policy)
        policy = run.iteration(study.protocol.iterations - 1).model
        options += ["--set", f"model.path={policy}"]
    if part.copies > 1:
        share = study.search(cell) / "data" / f"annotated-{SHARE}.jsonl"
        copied = study.folder(cell) / f"annotated-{part.copies}-times.jsonl"
        write_records(
            copied,
            (
                record.model_copy(update={"id": f"{record.id}-{copy}"})
                for record in read_records(share, AnnotatedRecord)
                for copy in range(part.copies)
            ),
        )
        options += ["--set", f"data.annotated={copied}"]
    return options


def collect_search(study: Study, cell: Cell) -> list[SearchRow]:
    """One row an arm and seed: exactness on validation, what is kept, of best and last.

    The runs that chose learning rates are here, too: each method at each rate; and the base.
    """
    if cell.base not in study.protocol.searches:
        return []
    folders = {
        f"rate-{rate:g}": study.selected(cell, rate) for rate in study.protocol.learning_rates
    }
    folders |= {"search": study.search(cell)}
    names = SEARCHES[study.protocol.searches[cell.base]].parts
    parts = [f"{name}-{seed}" for name in names for seed in SEARCH_SEEDS]
    folders |= {part: study.search(cell, part) for part in parts}
    return [
        {"skill": cell.skill, "base": cell.base, "part": part, **row}
        for part, path in folders.items()
        for row in _rows(study, cell, ComparisonFolder(path))
    ]


def _play_regimes(
    study: Study,
    cell: Cell,
    out: Path,
    regimes: Mapping[str, Regime],
    options: list[str],
    *,
    split: Split = "validation",
) -> None:
    """A comparison of regimes, each at its own learning rates.

    Args:
        study: All work of a protocol.
        cell: Skill and base.
        out: The comparison's folder.
        regimes: By label.
        options: Of `tspin compare`, besides.
        split: On which what is kept of other skills is measured.
    """
    rates = study.select(cell)
    options = [*options, *study.measure_kept(cell, split)]
    for label, regime in regimes.items():
        options += regime.options(label, rates[regime.like])
    arms = [
        label if label == regime.arm else f"{label}={regime.arm}"
        for label, regime in regimes.items()
    ]
    study.play(cell, arms, out, options)


def _rows(study: Study, cell: Cell, folder: ComparisonFolder) -> Iterator[dict[str, Any]]:
    runs = list(finished_runs(folder))
    for arm, run in runs:
        seed, last = run["seed"], run["iterations"] - 1
        yield {
            "arm": arm.name,
            "seed": seed,
            "flops": run["cost"]["flops"],
            "best": _values(study, cell, folder, arm, seed, run["best"]),
            "last": _values(study, cell, folder, arm, seed, last),
        }
        if arm == runs[0][0] and folder.path == study.search(cell):
            values = _values(study, cell, folder, arm, seed, BASE)
            untrained = {"arm": UNTRAINED, "seed": seed, "flops": 0.0}
            yield {**untrained, "best": values, "last": values}


def _values(
    study: Study, cell: Cell, folder: ComparisonFolder, arm: Arm, seed: int, number: int
) -> dict[str, float]:
    others = {skill: folder.measured(arm, seed, skill, number) for skill in cell.others}
    values = validation_values(folder.run(arm, seed).iteration(number).metrics)
    return values | kept_skills(study, others, "validation")


def confirm(study: Study, cell: Cell) -> None:
    """Run the regimes of `CONFIRMED` once more, beside SFT at every rate of the search."""
    if cell.base in study.protocol.confirmed and cell.skill in CONFIRMED:
        options = ["--seeds", ",".join(map(str, CONFIRMING_SEEDS))]
        options += ["--measure", f"test={study.records(cell.skill, 'test')}"]
        _play_regimes(study, cell, study.confirmed(cell), _regimes(cell), options, split="test")


def _regimes(cell: Cell) -> Mapping[str, Regime]:
    everything = KNOWN_FORM.regimes()["base"]
    return {
        name: regime
        for name, regime in everything.items()
        if name in CONFIRMED[cell.skill] or (regime.control and name != UNTRAINED)
    }


def collect_confirmed(study: Study, cell: Cell) -> Iterator[ConfirmedRow]:
    """One row an arm and seed; on test, at the best and at the last iteration, and of the base."""
    folder = ComparisonFolder(study.confirmed(cell))
    for arm, run in finished_runs(folder):
        numbers = {"base": BASE, "best": run["best"], "last": run["iterations"] - 1}
        yield {
            "skill": cell.skill,
            "base": cell.base,
            "arm": arm.name,
            "control": arm.name not in CONFIRMED[cell.skill],
            "seed": run["seed"],
            "test": {
                moment: on_test(study, folder, cell, arm, run["seed"], number)
                for moment, number in numbers.items()
            },
        }
