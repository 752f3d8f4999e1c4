"""Commands on annotated data: import, validate, split."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from tspin.cli.options import PATH, Overwrite
from tspin.data import (
    DEFAULT_MAX_CHARS,
    FORMATS,
    Choices,
    hub_dataset,
    import_records,
    source_hash,
    split_records,
    validate_records,
)
from tspin.errors import InputError
from tspin.outputs import check_output, made_from
from tspin.store import fetch, output_at

__all__ = ["app"]

app = typer.Typer(help="Annotated data: import, validate, split.", no_args_is_help=True)

SOURCE, FILE = PATH | {"metavar": "SOURCE"}, PATH | {"metavar": "FILE"}
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
        str, typer.Argument(help="A file, a folder, or ORG/NAME of the Hugging Face Hub.", **SOURCE)
    ],
    out: Annotated[str, typer.Option(help="Where the records go.", **PATH)],
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
    overwrite: Overwrite = False,
) -> None:
    """Turn what other tools have on disk, or the Hub has, into annotated records."""
    dataset = hub_dataset(source, revision, subset)
    if dataset is None and (revision or subset):
        raise InputError(f"{source}: --revision and --subset are for data sets on the Hub")
    rows = dataset or fetch(source)
    check_output(
        out,
        made_from("annotated", source=lambda: source_hash(rows, split)),
        inputs=[] if dataset else [source],
        overwrite=overwrite,
    )
    with output_at(out) as output:
        summary = import_records(
            rows,
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
    file: Annotated[str, typer.Argument(help="Annotated records.", **FILE)],
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
    file: Annotated[str, typer.Argument(help="Annotated records.", **FILE)],
    train: Annotated[str, typer.Option(help="Where the training side goes.", **PATH)],
    heldout: Annotated[str, typer.Option(help="Where the held-out side goes.", **PATH)],
    share: Annotated[float, typer.Option(help="Expected held-out share of prompts.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed holds out others.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Hold out records for evaluation, the same ones every time."""
    records = fetch(file)
    for side, other in ((train, heldout), (heldout, train)):
        ours = made_from("annotated", source=records)
        check_output(side, ours, inputs=[file, other], overwrite=overwrite)
    with output_at(train) as kept, output_at(heldout) as held:
        counts = split_records(
            records, train=kept.path, heldout=held.path, heldout_share=share, seed=seed
        )
    typer.echo(f"{train}: {counts.train:,} records\n{heldout}: {counts.heldout:,} records")
