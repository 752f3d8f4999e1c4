"""One command a step: generate, build-triplets, train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tspin.cli.options import (
    LOCAL_PATH,
    PATH,
    AnnotatedFile,
    Iteration,
    Overrides,
    Overwrite,
    StepConfigFile,
    local_model,
    local_records,
    local_training_records,
    model_identity,
    step_config,
)
from tspin.outputs import begins_with, check_output, checkpoint_folder, made_from
from tspin.records.records import AnnotatedRecord, Response, is_annotated
from tspin.records.training_log import TRAIN_LOG
from tspin.runs.folder import EvaluationFiles
from tspin.store import fetch, is_remote, output_at

__all__ = [
    "build_triplets",
    "evaluate",
    "fetch_tasks",
    "generate",
    "merge_responses",
    "train",
]

Model = Annotated[
    str,
    typer.Option(help="A folder, s3://bucket/prefix, or a name on the Hub.", **PATH),
]
Proto = Annotated[str, typer.Option(help="Responses of the initial policy.", **PATH)]


def _out(what: str) -> object:
    return typer.Option("--out", help=what, **PATH)


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
    overwrite: Overwrite = False,
) -> None:
    """Sample one response a prompt; started again, it continues."""
    settings = step_config(config, overrides, model=model, annotated=annotated)
    from tspin.generate.shards import Shard

    part, records = Shard.parse(shard), local_records(annotated, AnnotatedRecord)
    policy = local_model(model, settings.model)
    ours = made_from(
        "responses",
        annotated=records,
        model=model_identity(policy, settings.model),
        iteration=iteration,
        shard=str(part),
    )
    check_output(out, ours, inputs=[model, annotated, config], overwrite=overwrite)
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
        list[str],
        typer.Argument(help="The responses of all shards.", **PATH | {"metavar": "SHARDS"}),
    ],
    annotated: AnnotatedFile,
    out: Annotated[str, _out("Where all responses go (JSON Lines).")],
    overwrite: Overwrite = False,
) -> None:
    """Put the shards of a generation together, as if there had been one."""
    records, parts = fetch(annotated), [fetch(shard) for shard in shards]
    ours = made_from("responses", annotated=records)
    check_output(out, ours, inputs=[annotated, *shards], overwrite=overwrite)
    from tspin.generate.shards import merge_responses as step

    with output_at(out) as output:
        manifest = step(parts, annotated=records, out=output.path)
    _print_counts(out, manifest.counts)


def build_triplets(
    annotated: AnnotatedFile,
    synthetic: Annotated[str, typer.Option(help="Responses of the current policy.", **PATH)],
    proto: Proto,
    out: Annotated[str, _out("Where the triplets go (JSON Lines).")],
    config: StepConfigFile = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Join annotated, synthetic and proto-synthetic responses by id."""
    settings = step_config(config, overrides, model="unused", annotated=annotated)
    sources = {
        "annotated": local_records(annotated, AnnotatedRecord),
        "synthetic": local_records(synthetic, Response),
        "proto": local_records(proto, Response),
    }
    hashed = {"proto_synthetic" if name == "proto" else name: at for name, at in sources.items()}
    inputs = [annotated, synthetic, proto, config]
    check_output(out, made_from("triplets", **hashed), inputs=inputs, overwrite=overwrite)
    from tspin.triplets import build_triplets as step

    with output_at(out) as output:
        manifest = step(settings.triplets, **sources, out=output.path)
    _print_counts(out, manifest.counts)


def train(
    model: Model,
    triplets: Annotated[
        str, typer.Option(help="Triplets; for sft also annotated records.", **PATH)
    ],
    out: Annotated[str, _out("Folder of the next model.")],
    iteration: Iteration = 0,
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Folder of resumable checkpoints, removed at the end.", **LOCAL_PATH),
    ] = None,
    config: StepConfigFile = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Train the next policy from the current one; started again, it resumes."""
    settings = step_config(config, overrides, model=model, annotated=triplets)
    examples = local_training_records(triplets, settings)
    policy = local_model(model, settings.model)
    role = "annotated" if is_annotated(examples) else "triplets"
    identity = model_identity(policy, settings.model)
    ours = made_from("model", model=identity, iteration=iteration, **{role: examples})
    inputs = [model, triplets, config]
    check_output(out, ours, folder=True, inputs=inputs, overwrite=overwrite)
    if not is_remote(out):
        log_path, log_ours = Path(out).with_name(TRAIN_LOG), begins_with('{"step":')
        check_output(log_path, log_ours, inputs=inputs, overwrite=overwrite)
    if checkpoints is not None:
        place = out if is_remote(out) else Path(out)
        check_output(checkpoints, checkpoint_folder, folder=True, inputs=[*inputs, place])
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
        str | None,
        typer.Option(help="Responses of the initial policy to the same prompts.", **PATH),
    ] = None,
    iteration: Annotated[int, typer.Option(min=-1, help="-1 is the initial policy.")] = 0,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks of lm-eval, with commas between; instead of evaluate.tasks."),
    ] = None,
    config: StepConfigFile = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a model on held-out records, and on tasks of lm-evaluation-harness."""
    settings_given = [*(overrides or []), f"data.heldout={json.dumps(annotated)}"]
    if tasks is not None:
        settings_given.append(f"evaluate.tasks={json.dumps(tasks.split(','))}")
    settings = step_config(config, settings_given, model=model, annotated=annotated)
    records = local_records(annotated, AnnotatedRecord)
    initial = None if proto is None else local_records(proto, Response)
    policy = local_model(model, settings.model)
    same = {"annotated": records, "proto_synthetic": initial, "iteration": iteration}
    ours = made_from("metrics", model=model_identity(policy, settings.model), **same)
    check_output(
        out,
        ours,
        inputs=[model, annotated, proto, config, settings.evaluate.harness.task_folder],
        beside=EvaluationFiles(Path(out)).all_beside,
        overwrite=overwrite,
    )
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
