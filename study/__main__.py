"""Runs the study, or what is left of it: `python -m study --protocol known --out FOLDER`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.charts import FIGURES, draw
from study.protocol import PROTOCOLS, Cell, Protocol, cells
from study.results import RESULTS, Results
from study.tables import as_markdown
from tspin.errors import InputError
from tspin.files import atomic_file

if TYPE_CHECKING:
    from study.stages import Study

STAGES = ("prepare", "select", "search", "compare", "confirm", "temper", "vary", "collect")
FIGURE_FOLDER = Path(__file__).parents[1] / "docs" / "study"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
ProtocolName = Annotated[str, typer.Option("--protocol", help=f"One of {', '.join(PROTOCOLS)}.")]


@app.callback(invoke_without_command=True)
def _study(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Everything goes below it; again, it continues.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="SKILL/BASE, such as sums/weak; may be repeated.")
    ] = None,
    protocol: ProtocolName = "full",
    until: Annotated[str, typer.Option(help=f"The last of {', '.join(STAGES)}.")] = "collect",
    seed: Annotated[
        list[int] | None, typer.Option(help="Of the final runs; may be repeated; else all.")
    ] = None,
) -> None:
    """Run bases, learning rates, final runs, other alphas and betas, and collect the results."""
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise typer.BadParameter("give --out FOLDER, where everything goes")
    run_study(out, only, protocol, until, seed)


@app.command("tables")
def _tables(
    protocol: ProtocolName = "full",
    results: Annotated[Path, typer.Option(help="Folder of PROTOCOL.parquet.")] = RESULTS,
) -> None:
    """Write PROTOCOL.md beside PROTOCOL.parquet: every table of the results, nothing run."""
    _check(protocol)
    _write_tables(_read(results / f"{protocol}.parquet"), results / f"{protocol}.md")


@app.command("figures")
def _figures(
    results: Annotated[Path, typer.Option(help="Folder of known.parquet, full.parquet.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = FIGURE_FOLDER,
) -> None:
    """Write the figures of docs/study.md, one a claim, from the results of both protocols."""
    by_protocol = {name: _read(results / f"{name}.parquet") for name in ("known", "full")}
    for name in FIGURES:
        draw(name, by_protocol, out / f"{name}.svg")
        typer.echo(f"wrote {out / f'{name}.svg'}")


def run_study(
    out: Path,
    only: list[str] | None,
    protocol: str,
    until: str,
    seeds: list[int] | None = None,
) -> None:
    """Run the stages of a protocol in order; what is done already is left alone.

    Args:
        out: Everything goes below it.
        only: Names of cells; None for all.
        protocol: In `PROTOCOLS`.
        until: The last stage, of `STAGES`.
        seeds: Of the final runs; None for all.

    Raises:
        typer.BadParameter: no such protocol, stage, cell or seed.
    """
    _check(protocol)
    if until not in STAGES:
        raise typer.BadParameter(f"--until {until}: the stages are {', '.join(STAGES)}")
    chosen = _seeded(PROTOCOLS[protocol], seeds)
    names = _cells(chosen, only)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # Equal bytes whatever the machine.
    from study.search import confirm, search
    from study.stages import Study

    study = Study(out, chosen)
    study.prepare(names)
    # Every learning rate is chosen, and every search is over, before a test record is looked at.
    work: dict[str, Callable[[Cell], object]] = {
        "select": study.select,
        "search": partial(search, study),
        "compare": study.compare,
        "confirm": partial(confirm, study),
        "temper": study.temper,
        "vary": study.vary,
    }
    stages = STAGES[: STAGES.index(until) + 1]
    for stage in [name for name in work if name in stages]:
        for cell in names:
            work[stage](cell)
    if "collect" in stages:
        results = _collect(study, protocol, names)
        results.write(out / f"{protocol}.parquet")
        typer.echo(f"wrote {out / f'{protocol}.parquet'}")
        _write_tables(results, out / f"{protocol}.md")


def _check(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise typer.BadParameter(f"--protocol {protocol}: the names are {', '.join(PROTOCOLS)}")


def _cells(protocol: Protocol, only: list[str] | None) -> list[Cell]:
    by_name = {cell.name: cell for cell in cells(protocol)}
    for name in only or []:
        if name not in by_name:
            raise typer.BadParameter(f"--only {name}: the names are {', '.join(by_name)}")
    return [by_name[name] for name in only or by_name]


def _seeded(protocol: Protocol, seeds: list[int] | None) -> Protocol:
    for seed in seeds or []:
        if seed not in protocol.seeds:
            known = ", ".join(map(str, protocol.seeds))
            raise typer.BadParameter(f"--seed {seed}: the seeds are {known}")
    return replace(protocol, seeds=tuple(seeds)) if seeds else protocol


def _read(path: Path) -> Results:
    try:
        return Results.read(path)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


def _write_tables(results: Results, path: Path) -> None:
    with atomic_file(path) as file:
        file.write(as_markdown(results).encode())
    typer.echo(f"wrote {path}")


def _collect(study: Study, protocol: str, names: list[Cell]) -> Results:
    from study.measurements import collect_runs, collect_settings, collect_tempered
    from study.search import collect_confirmed, collect_search
    from study.signs import collect_signs

    return Results(
        protocol={"name": protocol, **asdict(study.protocol)},
        runs=[row for cell in names for row in collect_runs(study, cell)],
        settings=[row for cell in names for row in collect_settings(study, cell)],
        search=[row for cell in names for row in collect_search(study, cell)],
        confirmed=[row for cell in names for row in collect_confirmed(study, cell)],
        tempered=[row for cell in names for row in collect_tempered(study, cell)],
        signs=[row for cell in names for row in collect_signs(study, cell)],
    )


if __name__ == "__main__":
    app(prog_name="python -m study")
