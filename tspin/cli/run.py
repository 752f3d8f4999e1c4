"""Commands on a whole run: run, report, export."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tspin.cli.options import (
    LOCAL_PATH,
    PATH,
    ConfigFile,
    Overrides,
    Overwrite,
    check_run_inputs,
    run_config,
    run_inputs,
)
from tspin.errors import InputError
from tspin.monitoring.monitored import monitored
from tspin.outputs import check_output, never_ours, report_page, run_folder
from tspin.store import fetch, output_at
from tspin.tracking.tracked import tracked_run
from tspin.tracking.trackers import check_trackers

__all__ = ["export", "finish", "report", "run"]


RunDir = Annotated[str, typer.Argument(help="A run folder.", **PATH | {"metavar": "RUN_DIR"})]


def run(config: ConfigFile, overrides: Overrides = None, overwrite: Overwrite = False) -> None:
    """Generate, build triplets, train, evaluate, iteration after iteration; or continue."""
    settings = run_config(config, overrides)
    check_run_inputs(settings)
    check_output(
        settings.run_dir,
        run_folder,
        folder=True,
        grows=True,
        inputs=run_inputs(settings, config),
        overwrite=overwrite,
    )
    with monitored(settings, whole=True), output_at(settings.run_dir) as output:
        from tspin.cli.table import iteration_table
        from tspin.selfplay import run as play

        folder = play(settings.model_copy(update={"run_dir": str(output.path)}), kept=output.push)
        table = iteration_table(folder)
    console = Console()
    # A narrow terminal wraps long lines, which is better than numbers cut in the middle.
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
    console.print(Text(f"report: {settings.run_dir}/report.html"), soft_wrap=True)


def report(run_dir: RunDir, overwrite: Overwrite = False) -> None:
    """Write the run's report, one HTML page that needs no network."""
    check_output(f"{run_dir.rstrip('/')}/report.html", report_page, overwrite=overwrite)
    from tspin.report.page import write_report

    page = f"{run_dir.rstrip('/')}/report.html"
    with output_at(page) as output:
        write_report(fetch(run_dir, skip=("*.safetensors",)), output.path)
    typer.echo(page)


def finish(config: ConfigFile, overrides: Overrides = None) -> None:
    """Name the best of iterations that were made step by step, and write curves and report."""
    settings = run_config(config, overrides)
    check_trackers(settings)
    check_output(settings.run_dir, run_folder, folder=True, grows=True)
    check_output(Path(settings.run_dir) / "report.html", report_page)
    from tspin.cli.table import iteration_table
    from tspin.project.finish import finish as step

    with tracked_run(settings):
        folder = step(settings)
    Console().print(iteration_table(folder))


Number = Annotated[int | None, typer.Option(help="Of a champion; today's by default.")]
Source = Annotated[
    str | None, typer.Argument(help="A run folder.", **PATH | {"metavar": "[RUN_DIR]"})
]
Champions = Annotated[
    str | None,
    typer.Option("--registry", help="Export its champion instead of a run's model.", **PATH),
]
Reference = Annotated[
    str | None,
    typer.Option("--oci", help="HOST/PATH[:TAG]: push it as an image.", show_default=False),
]


def export(
    run_dir: Source = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the model.", **LOCAL_PATH)
    ] = None,
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
    oci: Reference = None,
    registry: Champions = None,
    number: Number = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy a run's model to a folder, with a model card; to the Hub or an image, if asked."""
    if registry is not None:
        if run_dir or iteration is not None or merge or push_to or out is not None or oci is None:
            raise InputError(
                "--registry takes --oci and --number, and nothing else of a run; `tspin registry "
                "fetch` copies a champion to a folder"
            )
        _push_champion(registry, number, oci)
        return
    if run_dir is None or out is None or number is not None:
        raise InputError("expected RUN_DIR and --out, or --registry, --oci and perhaps --number")
    _export_run(run_dir, out, iteration, merge, push_to, public, oci, overwrite)


def _export_run(
    run_dir: str,
    out: Path,
    iteration: int | None,
    merge: bool,
    push_to: str | None,
    public: bool,
    oci: str | None,
    overwrite: bool,
) -> None:
    check_output(out, never_ours, folder=True, inputs=[run_dir], overwrite=overwrite)
    from tspin.export.oci import Reference, push_image

    reference = None if oci is None else Reference.of(oci)
    from tspin.export.hub import check_name_and_token, push_model
    from tspin.export.model import chosen_iteration, export_model
    from tspin.records.manifest import content_hash

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
    if reference is not None:
        typer.echo(f"oci://{push_image(out, reference, content_hash(out))}")


def _push_champion(registry: str, number: int | None, oci: str) -> None:
    from tspin.export.oci import Reference, push_image
    from tspin.registry import Registry

    reference, opened = Reference.of(oci), Registry(registry)
    record = opened.find(number=number)
    with tempfile.TemporaryDirectory(prefix="tspin-image-") as folder:
        model = Path(folder) / "model"
        opened.fetch(record, model)
        image = push_image(model, reference, record.model)
    opened.images.add(record, image)
    typer.echo(f"oci://{image}")
