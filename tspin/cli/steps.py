"""One command a step: generate, build-triplets, train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tspin.cli.options import (
    AnnotatedFile,
    Iteration,
    Overrides,
    StepConfigFile,
    local_model,
    local_records,
    local_training_records,
    step_config,
)
from tspin.records.records import AnnotatedRecord, Response
from tspin.store import fetch, output_at

__all__ = [
    "COMMANDS",
    "PANEL",
    "build_triplets",
    "evaluate",
    "fetch_tasks",
    "generate",
    "merge_responses",
    "train",
]

PANEL = "Single steps"

Model = Annotated[
    str,
    typer.Option(help="A folder, s3://bucket/prefix, or a name on the Hub.", show_default=False),
]


def _out(what: str) -> object:
    return typer.Option("--out", help=what, show_default=False)


def generate(
    model: Model,
    annotated: AnnotatedFile,
    out: Annotated[str, _out("Where the responses go (JSON Lines).")],
    iteration: Iteration = 0,
    shard: Annotated[
        str, typer.Option(help="i/n: answer every n-th prompt, from the i-th; i from 0.")
    ] = "0/1",
    config: StepConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Sample one response a prompt; started again, it continues."""
    settings = step_config(config, overrides, model=model, annotated=annotated)
    from tspin.generate.shards import Shard

    part, records = Shard.parse(shard), local_records(annotated, AnnotatedRecord)
    policy = local_model(model, settings.model)
    from tspin.generate.step import generate as step

    with output_at(out) as output:
        manifest = step(
            settings,
            model=policy,
            annotated=records,
            out=output.path,
            iteration=iteration,
            shard=part,
        )
    _print_counts(out, manifest.counts)


def merge_responses(
    shards: Annotated[
        list[str], typer.Argument(help="The responses of all shards.", show_default=False)
    ],
    annotated: AnnotatedFile,
    out: Annotated[str, _out("Where all responses go (JSON Lines).")],
) -> None:
    """Put the shards of a generation together, as if there had been one."""
    from tspin.generate.shards import merge_responses as step

    with output_at(out) as output:
        parts = [fetch(shard) for shard in shards]
        manifest = step(parts, annotated=fetch(annotated), out=output.path)
    _print_counts(out, manifest.counts)


def build_triplets(
    annotated: AnnotatedFile,
    synthetic: Annotated[str, typer.Option(help="Responses of the current policy.")],
    proto: Annotated[str, typer.Option(help="Responses of the initial policy.")],
    out: Annotated[str, _out("Where the triplets go (JSON Lines).")],
    config: StepConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Join annotated, synthetic and proto-synthetic responses by id."""
    settings = step_config(config, overrides, model="unused", annotated=annotated)
    sources = {
        "annotated": local_records(annotated, AnnotatedRecord),
        "synthetic": local_records(synthetic, Response),
        "proto": local_records(proto, Response),
    }
    from tspin.triplets import build_triplets as step

    with output_at(out) as output:
        manifest = step(settings.triplets, **sources, out=output.path)
    _print_counts(out, manifest.counts)


def train(
    model: Model,
    triplets: Annotated[str, typer.Option(help="Triplets; for sft also annotated records.")],
    out: Annotated[str, _out("Folder of the next model.")],
    iteration: Iteration = 0,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of resumable checkpoints, removed at the end.")
    ] = None,
    config: StepConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Train the next policy from the current one; started again, it resumes."""
    settings = step_config(config, overrides, model=model, annotated=triplets)
    examples = local_training_records(triplets, settings)
    policy = local_model(model, settings.model)
    from tspin.train.step import train as step

    with output_at(out) as output:
        manifest = step(
            settings,
            model=policy,
            triplets=examples,
            iteration=iteration,
            out=output.path,
            checkpoints=checkpoints,
        )
    _print_counts(out, manifest.counts)


def evaluate(
    model: Model,
    annotated: AnnotatedFile,
    out: Annotated[str, _out("Where metrics.json goes.")],
    proto: Annotated[
        str | None, typer.Option(help="Responses of the initial policy to the same prompts.")
    ] = None,
    iteration: Annotated[int, typer.Option(min=-1, help="-1 is the initial policy.")] = 0,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks of lm-eval, with commas between; instead of evaluate.tasks."),
    ] = None,
    config: StepConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Measure a model on held-out records, and on tasks of lm-evaluation-harness."""
    settings_given = [*(overrides or []), f"data.heldout={json.dumps(annotated)}"]
    if tasks is not None:
        settings_given.append(f"evaluate.tasks={json.dumps(tasks.split(','))}")
    settings = step_config(config, settings_given, model=model, annotated=annotated)
    records = local_records(annotated, AnnotatedRecord)
    initial = None if proto is None else local_records(proto, Response)
    policy = local_model(model, settings.model)
    from tspin.cli.table import with_interval
    from tspin.evaluate.step import evaluate as step
    from tspin.records.estimate import estimates_of

    with output_at(out) as output:
        measured = step(
            settings,
            model=policy,
            annotated=records,
            out=output.path,
            proto=initial,
            iteration=iteration,
        )
    for name, metric in sorted(estimates_of(measured).items()):
        typer.echo(f"{name:45} {with_interval(metric)}")


def fetch_tasks(
    tasks: Annotated[list[str], typer.Argument(help="Tasks, groups, or a preset.")],
) -> None:
    """Download what tasks of lm-evaluation-harness ask, for a machine without network."""
    from tspin.config import EvaluateConfig
    from tspin.harness.loading import load_task
    from tspin.harness.requests import task_requests

    for request in task_requests(EvaluateConfig(tasks=tuple(tasks))):
        loaded = load_task(request, None).loaded["tasks"]
        typer.echo(
            f"{request.name}: {sum(len(task.eval_docs) for task in loaded.values())} questions"
        )


def _print_counts(out: str, counts: dict[str, int]) -> None:
    typer.echo(f"{out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


COMMANDS = (generate, merge_responses, build_triplets, train, evaluate, fetch_tasks)
