"""Compiles a pipeline for a profile into one YAML file: pipeline spec and platform spec."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kfp import compiler

from pipelines.graph.graphs import GRAPHS
from pipelines.plan import Plan
from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.outputs import Recognition, begins_with

__all__ = ["PIPELINES", "compile_pipeline", "compiled_pipeline"]

PIPELINES: tuple[str, ...] = tuple(GRAPHS)


def compiled_pipeline(name: str) -> Recognition:
    """How the YAML file of a pipeline or component is known: kfp puts its name at the top."""
    shown = f"tspin-{name}" if name in PIPELINES else name.replace("_", "-")
    return begins_with(f"# PIPELINE DEFINITION\n# Name: {shown}\n")


def compile_pipeline(name: str, plan: Plan, out: Path) -> None:
    """Write the pipeline `name` to `out`, whole or not at all.

    Args:
        name: One of `PIPELINES`.
        plan: What it is compiled from.
        out: The YAML file, two documents.

    Raises:
        InputError: no such pipeline, or a plan that it cannot follow.
    """
    if name not in PIPELINES:
        raise InputError(f"unknown pipeline '{name}'; there are {', '.join(PIPELINES)}")
    _refuse(name, plan)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(GRAPHS[name](plan), str(temporary))
        with atomic_file(out) as file:
            file.write(temporary.read_bytes())


def _refuse(name: str, plan: Plan) -> None:
    if plan.shards < 1:
        raise InputError(f"shards is {plan.shards}; expected 1 or more")
    if plan.iteration < 0:
        raise InputError(f"iteration is {plan.iteration}; expected 0 or more")
    if name == "run" and plan.model is not None:
        raise InputError(
            f"model is {plan.model!r}; pipeline 'run' begins with model.path of the configuration"
        )
    if name == "run" and plan.iteration != 0:
        raise InputError(f"iteration is {plan.iteration}; pipeline 'run' plays all of them")
    if name == "evaluate" and plan.config.data.heldout is None:
        raise InputError("data.heldout is not set; pipeline 'evaluate' measures on it")
    if name == "evaluate" and plan.registry is not None:
        raise InputError(f"registry is {plan.registry!r}; pipeline 'evaluate' promotes no model")
    if plan.registry is not None and not plan.measures:
        raise InputError(f"registry is {plan.registry!r}; promotion needs data.heldout")
