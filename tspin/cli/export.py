"""Commands that hand a model on: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tspin.cli.run import PANEL
from tspin.store import fetch

__all__ = ["COMMANDS", "PANEL", "export"]


def export(
    run_dir: Annotated[str, typer.Argument(help="A run folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new folder for the model.", show_default=False)],
    iteration: Annotated[
        int | None, typer.Option(min=0, help="Without it, the best one.", show_default=False)
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Put a LoRA adapter into its base.")
    ] = False,
    push_to: Annotated[
        str | None,
        typer.Option(help="USER/NAME on the Hugging Face Hub; needs a token.", show_default=False),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="A repository made by --push-to is not private.")
    ] = False,
) -> None:
    """Copy a run's model to a folder, with a model card; and to the Hub, if asked."""
    from tspin.export import chosen_iteration, export_model
    from tspin.hub import check_name_and_token, push_model

    if push_to is not None:
        check_name_and_token(push_to)
    history = fetch(run_dir, skip=("*.safetensors",))
    number = chosen_iteration(history, iteration)
    model = fetch(f"{run_dir.rstrip('/')}/iter-{number}/model")
    name = push_to or out.name
    export_model(history, model, number, out=out, merge=merge, name=name)
    typer.echo(f"{out}: the model of iteration {number}")
    if push_to is not None:
        typer.echo(push_model(out, push_to, public=public))


COMMANDS = (export,)
