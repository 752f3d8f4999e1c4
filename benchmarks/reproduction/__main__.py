"""Runs the study, or what is left of it: `python -m benchmarks.reproduction --out FOLDER`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.reproduction.claims import verdicts
from benchmarks.reproduction.confirming import collect_confirmed, confirm
from benchmarks.reproduction.markdown import as_markdown
from benchmarks.reproduction.protocol import PROTOCOLS, Cell, Protocol, cells
from benchmarks.reproduction.rows import collect_rows, collect_settings
from benchmarks.reproduction.search import collect_search, search
from benchmarks.reproduction.signs import collect_signs
from benchmarks.reproduction.study import Study
from benchmarks.reproduction.tempered import collect_tempered, temper
from tspin.files import atomic_file, write_json

STAGES = ("prepare", "select", "search", "compare", "confirm", "temper", "vary", "collect")


def main(
    out: Annotated[Path, typer.Option(help="Everything goes below it; again, it continues.")],
    only: Annotated[
        list[str] | None, typer.Option(help="SKILL/BASE, such as sums/weak; may be repeated.")
    ] = None,
    protocol: Annotated[str, typer.Option(help=f"One of {', '.join(PROTOCOLS)}.")] = "full",
    until: Annotated[str, typer.Option(help=f"The last of {', '.join(STAGES)}.")] = "collect",
) -> None:
    """Bases, learning rates, final runs, other alphas and betas, and what came of all that."""
    if protocol not in PROTOCOLS or until not in STAGES:
        raise typer.BadParameter(
            f"--protocol: {', '.join(PROTOCOLS)}; --until: {', '.join(STAGES)}"
        )
    study = Study(out, PROTOCOLS[protocol])
    wanted = _cells(study.protocol, only)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # Equal bytes whatever the machine.
    stages = STAGES[: STAGES.index(until) + 1]
    study.prepare(wanted)
    # Every learning rate is chosen, and every search is over, before a test record is looked at.
    work: dict[str, Callable[[Cell], object]] = {
        "select": study.select,
        "search": partial(search, study),
        "compare": study.compare,
        "confirm": partial(confirm, study),
        "temper": partial(temper, study),
        "vary": study.vary,
    }
    for stage, done_for in work.items():
        if stage in stages:
            for cell in wanted:
                done_for(cell)
    if "collect" in stages:
        _collect(study, protocol, wanted)


def _cells(protocol: Protocol, only: list[str] | None) -> list[Cell]:
    known = {cell.name: cell for cell in cells(protocol)}
    for name in only or []:
        if name not in known:
            raise typer.BadParameter(f"--only {name}: the names are {', '.join(known)}")
    return [known[name] for name in only or known]


def _collect(study: Study, protocol: str, wanted: list[Cell]) -> None:
    rows = [row for cell in wanted for row in collect_rows(study, cell)]
    settings = [row for cell in wanted for row in collect_settings(study, cell)]
    result = {
        "protocol": {"name": protocol, **asdict(study.protocol)},
        "rows": rows,
        "settings": settings,
        "search": [row for cell in wanted for row in collect_search(study, cell)],
        "confirmed": [row for cell in wanted for row in collect_confirmed(study, cell)],
        "tempered": [row for cell in wanted for row in collect_tempered(study, cell)],
        "signs": [row for cell in wanted for row in _signs(study, cell)],
        "verdicts": [asdict(each) for each in verdicts(rows, settings)],
    }
    write_json(study.out / "result.json", result)
    with atomic_file(study.out / "result.md") as file:
        file.write(as_markdown(result).encode())
    typer.echo(f"wrote {study.out / 'result.json'} and {study.out / 'result.md'}")


def _signs(study: Study, cell: Cell) -> Iterator[dict[str, Any]]:
    for comparison in sorted(study.folder(cell).rglob("compare.json")):
        yield from collect_signs(comparison.parent, study.out)


if __name__ == "__main__":
    typer.run(main)
