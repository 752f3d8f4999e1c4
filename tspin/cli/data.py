"""Commands on annotated data: import, validate, split."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from tspin.data import (
    DEFAULT_MAX_CHARS,
    FORMATS,
    Choices,
    hub_dataset,
    import_records,
    split_records,
    validate_records,
)
from tspin.errors import InputError
from tspin.store import fetch, output_at

__all__ = ["app"]

app = typer.Typer(help="Annotated data: import, validate, split.", no_args_is_help=True)

MaxChars = Annotated[int, typer.Option(min=1, help="Longest record, in characters.")]

Split = Annotated[str | None, typer.Option(help="Which split of a source that holds several.")]
Revision = Annotated[str | None, typer.Option(help="Hub only: a branch, a tag or a commit.")]
Subset = Annotated[str | None, typer.Option(help="Hub only: which configuration of several.")]
TrailingUser = Annotated[
    Literal["error", "drop"],
    typer.Option(help="A conversation that ends with the user: drop takes what comes before."),
]
OnDuplicate = Annotated[
    Literal["error", "rename", "skip"],
    typer.Option(help="An id that stands twice: rename gives the second one a new id."),
]
IgnoreExtra = Annotated[
    bool, typer.Option("--ignore-extra", help="Leave out fields that mean nothing here.")
]


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="A file, a folder, or ORG/NAME of the Hugging Face Hub.", show_default=False
        ),
    ],
    out: Annotated[str, typer.Option(help="Where the records go.", show_default=False)],
    format_name: Annotated[
        str | None,
        typer.Option("--format", help=f"Detected unless named: {', '.join(FORMATS)}."),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"], typer.Option(help="skip keeps the good rows and counts the rest.")
    ] = "fail",
    max_chars: MaxChars = DEFAULT_MAX_CHARS,
    split: Split = None,
    revision: Revision = None,
    subset: Subset = None,
    trailing_user: TrailingUser = "error",
    on_duplicate: OnDuplicate = "error",
    ignore_extra: IgnoreExtra = False,
) -> None:
    """Turn what other tools have on disk, or the Hub has, into annotated records."""
    dataset = hub_dataset(source, revision, subset)
    if dataset is None and (revision or subset):
        raise InputError(f"{source}: --revision and --subset are for data sets on the Hub")
    with output_at(out) as output:
        summary = import_records(
            dataset or fetch(source),
            output.path,
            format=format_name,
            on_error=on_error,
            max_chars=max_chars,
            split=split,
            choices=Choices(trailing_user, on_duplicate, ignore_extra),
        )
    typer.echo("\n".join(summary.lines()))


@app.command()
def validate(
    file: Annotated[str, typer.Argument(help="Annotated records.", show_default=False)],
    max_chars: MaxChars = DEFAULT_MAX_CHARS,
) -> None:
    """List every problem of a file of annotated records, with its line; exit code 2 if any."""
    report = validate_records(fetch(file), max_chars=max_chars)
    for problem in report.problems:
        typer.echo(str(problem))
    if report.total > len(report.problems):
        typer.echo(f"... and {report.total - len(report.problems):,} more")
    typer.echo(f"{file}: {report.valid:,} of {report.rows:,} records are valid")
    for reason, count in report.counts.items():
        typer.echo(f"  {reason}: {count:,}")
    if not report.ok:
        sys.exit(2)


@app.command()
def split(
    file: Annotated[str, typer.Argument(help="Annotated records.", show_default=False)],
    train: Annotated[str, typer.Option(help="Where the training side goes.", show_default=False)],
    heldout: Annotated[str, typer.Option(help="Where the held-out side goes.", show_default=False)],
    share: Annotated[float, typer.Option(help="Expected held-out share of prompts.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed holds out others.")] = 0,
) -> None:
    """Hold out records for evaluation, the same ones every time."""
    with output_at(train) as kept, output_at(heldout) as held:
        counts = split_records(
            fetch(file), train=kept.path, heldout=held.path, heldout_share=share, seed=seed
        )
    typer.echo(f"{train}: {counts.train:,} records\n{heldout}: {counts.heldout:,} records")
