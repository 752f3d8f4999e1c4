"""The command line of the GPU benchmark."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.gpu.document import section
from benchmarks.gpu.plan import PARTS, REAL, TOY, Part
from benchmarks.gpu.request import Request
from benchmarks.gpu.session import Session
from benchmarks.markdown import replace_section

__all__ = ["run"]

SECTION = "gpu"
"""Of the document."""
NO_GPU = 2
"""Exit code."""
_BUILD = Path("build/bench")
_MINUTES = 12.0
_TOY_MINUTES = 30
"""Of each part."""
_UNLIMITED = 24 * 60.0


def run(
    gpus: Annotated[int, typer.Option(min=1, help="Above 1 also DDP against sharding.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="For all parts together; default 12, at toy size no limit."),
    ] = None,
    toy: Annotated[
        bool, typer.Option("--toy", help="Everything on the CPU at toy size: no figures.")
    ] = False,
    part: Annotated[
        list[str], typer.Option(help=f"{', '.join(one.name for one in PARTS[1:])}; all if unset.")
    ] = [],  # noqa: B006  # typer copies it
    json: Annotated[
        Path | None, typer.Option(help="All figures; default build/bench/gpu.json or gpu_toy.json.")
    ] = None,
    document: Annotated[
        Path | None, typer.Option(help="Write the tables into this Markdown file's section.")
    ] = None,
    vllm_python: Annotated[
        Path | None,
        typer.Option(envvar="TSPIN_VLLM_PYTHON", help="An interpreter that has vLLM."),
    ] = None,
) -> None:
    """Measure on a GPU what no CPU can show, and write it down.

    The parts run in the order of their worth, each in a process of its own with a time limit.
    What the time does not reach is listed. Exit code 1 if a part failed, 2 if there is no GPU.
    """
    parts = _parts(part, toy)
    minutes = minutes or (_UNLIMITED if toy else _MINUTES)
    _refuse_missing_gpus(gpus, toy)
    out = json or _BUILD / ("gpu_toy.json" if toy else "gpu.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["benchmarks/gpu.sh", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="tspin-gpu-") as scratch:
        request = Request(TOY if toy else REAL, gpus, scratch, command)
        session = Session(
            lambda one, file: _measuring(one, request, file, vllm_python),
            folder=Path(scratch),
            json=out,
            seconds=60 * minutes,
            gpus=gpus,
            about={"toy": toy, "gpus": gpus, "minutes": minutes},
            say=typer.echo,
        )
        session.run(parts)
    _show(session, out, document)


def _show(session: Session, out: Path, document: Path | None) -> None:
    """Print what was found, and end with the exit code that it asks for."""
    text = section(session.outcome)
    typer.echo(f"\n{text}\n\n{out}")
    if document is not None:
        replace_section(document, SECTION, text)
    if session.failed:
        typer.echo(f"failed: {', '.join(session.failed)}", err=True)
        raise typer.Exit(1)


def _parts(asked: list[str], toy: bool) -> Sequence[Part]:
    first, *others = PARTS
    known = [part.name for part in others]
    for name in asked:
        if name not in known:
            raise typer.BadParameter(f"'{name}' is none of {', '.join(known)}", param_hint="--part")
    parts = [first, *(part for part in others if part.name in asked or not asked)]
    # How long a CPU takes depends on what else it does; it shall fail for better reasons.
    return [replace(part, seconds=60 * _TOY_MINUTES) for part in parts] if toy else parts


def _refuse_missing_gpus(gpus: int, toy: bool) -> None:
    # Counting them takes no memory on any.
    there = torch.cuda.device_count()
    if toy or there >= gpus:
        return
    if not there:
        typer.echo("torch sees no GPU here; --toy runs everything on the CPU at toy size", err=True)
    else:
        typer.echo(f"--gpus is {gpus}, but torch sees {there} here", err=True)
    raise typer.Exit(NO_GPU)


def _measuring(part: Part, request: Request, out: Path, vllm_python: Path | None) -> list[str]:
    """The command that measures one part."""
    python = sys.executable
    if part.name == "generation" and vllm_python is not None:
        python = os.fspath(vllm_python)
    arguments = [part.name, request.as_json(), os.fspath(out)]
    return [python, "-m", "benchmarks.gpu.measuring", *arguments]
