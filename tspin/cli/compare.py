"""The command that sets methods side by side: compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tspin.cli.options import (
    PATH,
    ConfigFile,
    Overrides,
    Overwrite,
    check_run_inputs,
    run_inputs,
)
from tspin.config import RunConfig, load_config
from tspin.errors import InputError
from tspin.files import expanded
from tspin.outputs import check_output, comparison_folder
from tspin.store import fetch, output_at

if TYPE_CHECKING:
    from tspin.compare.tables import Part

__all__ = ["compare"]

Methods = Annotated[
    str,
    typer.Option(
        help="tspin, tspin_no_history, tspin_all, tspin_ref, spin, space, sdft, rft, sft, "
        "sft_matched, or field for most of them; NAME@0.25 gets a share of the annotated records, "
        "LABEL=NAME a name."
    ),
]
Seeds = Annotated[str | None, typer.Option(help="0,1,2; without it, the configuration's.")]
Measured = Annotated[
    list[str] | None,
    typer.Option(
        "--measure", help="NAME=FILE: measure on these records, too, and choose nothing by them."
    ),
]
Own = Annotated[
    list[str] | None,
    typer.Option("--set-for", help="METHOD:section.key=value for one method; may be repeated."),
]
Out = Annotated[
    str | None, typer.Option(help="The folder; without it, run_dir with '-compare'.", **PATH)
]


def compare(
    config: ConfigFile,
    methods: Methods = "tspin,spin,sft,sft_matched",
    overrides: Overrides = None,
    own: Own = None,
    seeds: Seeds = None,
    measured: Measured = None,
    against: Annotated[str | None, typer.Option(help="A method; without it, the first.")] = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Methods side by side on the same model and data, with what each costs; or continue."""
    path, assignments = fetch(config), overrides or []
    settings = load_config(path, assignments)
    chosen = _seeds(seeds) if seeds is not None else [settings.seed]
    own_settings = _own(path, assignments, own or [])
    sets = dict(_named(text) for text in measured or [])
    check_run_inputs(settings)
    place = out or f"{settings.run_dir.rstrip('/')}-compare"
    inputs = [*run_inputs(settings, config), settings.run_dir, *map(str, sets.values())]
    check_output(
        place, comparison_folder, folder=True, grows=True, inputs=inputs, overwrite=overwrite
    )
    from tspin.compare import Comparison, parse_arms
    from tspin.compare import compare as play
    from tspin.compare.tables import summary_table

    arms = parse_arms(methods.split(","))
    asked = Comparison(settings, arms, chosen, own_settings, sets, against)
    with output_at(place) as output:
        result = play(asked, output.path, kept=output.push)
    _print(summary_table(result))
    typer.echo(f"page: {place}/compare.html")


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds {text}: give different numbers from 0, such as 0,1,2")
    return seeds


def _own(path: Path, overrides: list[str], own: list[str]) -> dict[str, RunConfig]:
    assignments: dict[str, list[str]] = {}
    for text in own:
        name, separator, setting = text.partition(":")
        if not separator:
            raise InputError(f"--set-for {text}: expected METHOD:section.key=value")
        key = setting.partition("=")[0]
        if key in ("train.method", "seed", "run_dir") or key.startswith("data."):
            raise InputError(f"--set-for {text}: {key} is what a comparison sets itself")
        assignments.setdefault(name, []).append(setting)
    return {
        name: load_config(path, [*overrides, *settings]) for name, settings in assignments.items()
    }


def _named(text: str) -> tuple[str, Path]:
    name, separator, location = text.partition("=")
    if not separator or not name.replace("-", "").replace("_", "").isalnum() or name == "heldout":
        raise InputError(
            f"--measure {text}: expected NAME=FILE, the name in letters, digits, '-' and '_' and "
            "not 'heldout'"
        )
    return name, fetch(expanded(location))


def _print(part: Part) -> None:
    # As Text: labels and names of metrics may look like rich's markup.
    title, caption = Text(part.title, "table.title"), Text(part.note, "table.caption")
    table = Table(title=title, caption=caption)
    for at, name in enumerate(part.columns):
        table.add_column(Text(name), justify="left" if at == 0 else "right", no_wrap=at == 0)
    for row in part.rows:
        cells = ("\n".join(filter(None, cell)) for cell in row.cells)
        table.add_row(Text(row.label), *map(Text, cells))
    console = Console()
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
