"""The command that says what a run will take: plan."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tspin.cli.options import PATH, ConfigFile, Overrides, check_run_inputs, run_config
from tspin.planning.devices import UTILISATION
from tspin.plugins import PLACES, load_plugin

if TYPE_CHECKING:
    from tspin.planning.plan import PlannedStage, RunPlan, Total
    from tspin.planning.work import Work

__all__ = ["plan"]


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    profile: Annotated[
        str | None,
        typer.Option(help="On the pools of a profile: a name, or your own (*.yaml).", **PATH),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="On this GPU, such as h100, or FLOPS,BANDWIDTH,MEMORY; else on this machine.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="How many of --device.", show_default=False),
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of a GPU's peak that training reaches.")
    ] = UTILISATION,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine's GPU; a CPU always is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a run will take: tokens, operations, hours, bytes, memory, money."""
    settings = run_config(config, overrides)
    places = None if profile is None else load_plugin(PLACES, "profile")(profile)
    check_run_inputs(settings)
    from tspin.planning.description import assumptions, plan_json
    from tspin.planning.plan import plan_run
    from tspin.planning.where import Target

    target = Target.of(settings, device=device, gpus=gpus, places=places, measure=measure)
    planned = plan_run(settings, target, utilisation=utilisation)
    if as_json:
        typer.echo(json.dumps(plan_json(planned), indent=2))
        return
    console = Console()
    table = _table(planned)
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
    for line in [*_summary(planned), "", *(f"- {text}" for text in assumptions(planned))]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _table(planned: RunPlan) -> Table:
    """A row a stage, a line between iterations, the total and its upper bound at the end."""
    table = Table()
    for name in ("iteration", "stage", "on"):
        table.add_column(name)
    priced = planned.total().money is not None
    numbers = ["generated", "trained", "FLOPs", "time", "GPU-hours", "memory", "kept"]
    for name in numbers + ["money"] * priced:
        table.add_column(name, justify="right")
    before: int | None = None
    for one in planned.stages:
        number = one.stage.iteration
        if number != before:
            table.add_section()
        shown = "" if number is None else str(number)
        cells = _cells(one.stage.expected, one.expected, one.memory, priced=priced)
        table.add_row(shown, one.stage.kind, _place(one), *cells)
        before = number
    table.add_section()
    peak = max(one.memory for one in planned.stages)
    for name, most in (("expected", False), ("at most", True)):
        work, total = planned.work(most=most), planned.total(most=most)
        table.add_row("all", name, "", *_cells(work, total, peak, priced=priced))
    return table


def _cells(work: Work, total: Total, memory: int, *, priced: bool) -> list[str]:
    cells = [
        _tokens(work.generated_tokens),
        _tokens(work.trained_tokens),
        f"{work.flops:.2g}" if work.flops else "",
        _time(total.seconds) if total.seconds else "",
        f"{total.gpu_hours:,.2f}" if total.gpu_hours else "",
        _size(memory) if memory else "",
        _size(work.written) if work.written else "",
    ]
    return cells + [f"{total.money:,.2f}" if total.money is not None else ""] * priced


def _place(one: PlannedStage) -> str:
    if one.place is None:
        return ""
    if one.device is None:
        return "CPU"
    return f"{one.place.gpus} x {one.device.name}"


def _summary(planned: RunPlan) -> list[str]:
    work = planned.work()
    stored = f"{_size(work.written)} of outputs (dvc push, a remote run_dir, or Kubeflow's)"
    if planned.sent:
        stored += f", and {_size(planned.sent)} of checkpoints that come and go"
    return [
        f"{planned.sizes.shape.parameters / 1e6:,.1f} million parameters, "
        f"{planned.sizes.trained_parameters / 1e6:,.1f} million trained; "
        f"{planned.annotated.records:,} annotated records",
        f"disk: {_size(planned.disk)} with two checkpoints; to a store: {stored}",
    ]


def _tokens(number: float) -> str:
    return f"{number:,.0f}" if number else ""


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _size(size: float) -> str:
    if size < 2**20:
        return f"{size / 2**10:,.0f} KiB"
    if size < 2**30:
        return f"{size / 2**20:,.0f} MiB"
    return f"{size / 2**30:,.1f} GiB"
