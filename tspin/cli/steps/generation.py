"""Commands that sample responses, whole or in shards."""

from __future__ import annotations

from typing import Annotated

import typer

from tspin.cli.options import (
    PATH,
    AnnotatedFile,
    Iteration,
    Overrides,
    Overwrite,
    StepConfigFile,
    local_model,
    local_records,
    model_identity,
    step_config,
)
from tspin.cli.steps.options import Model, out_option, print_counts
from tspin.monitoring.monitored import check_endpoint, monitored
from tspin.outputs import check_output, made_from
from tspin.records.records import AnnotatedRecord, Response
from tspin.store import fetch, output_at
from tspin.tracking.tracked import Step, tracked_step

__all__ = ["generate", "merge_responses"]

PartOfPrompts = Annotated[
    str, typer.Option(help="i/n: answer every n-th prompt, from the i-th; i from 0.")
]
Drafts = Annotated[
    str | None,
    typer.Option(
        help="Responses of the iteration before, which coupled or greedy ones may equal: "
        "less work for the engine transformers, the same responses.",
        **PATH,
    ),
]


def generate(
    model: Model,
    annotated: AnnotatedFile,
    out: Annotated[str, out_option("Where the responses go (JSON Lines).")],
    iteration: Iteration = 0,
    shard: PartOfPrompts = "0/1",
    drafts: Drafts = None,
    config: StepConfigFile = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Sample responses to every prompt; started again, it continues."""
    settings = step_config(config, overrides, model=model, annotated=annotated)
    check_endpoint(settings)
    from tspin.generate.shards import Shard

    part, records = Shard.parse(shard), local_records(annotated, AnnotatedRecord)
    drafted = None if drafts is None else local_records(drafts, Response)
    policy = local_model(model, settings.model)
    ours = made_from(
        "responses",
        annotated=records,
        model=model_identity(policy, settings.model),
        iteration=iteration,
        shard=str(part),
    )
    inputs = [model, annotated, config, drafts]
    check_output(out, ours, inputs=inputs, overwrite=overwrite)
    from tspin.generate.step import generate as step

    with (
        monitored(settings),
        output_at(out) as output,
        tracked_step(Step("generate", output.path, iteration, settings)),
    ):
        manifest = step(
            settings,
            model=policy,
            annotated=records,
            out=output.path,
            iteration=iteration,
            shard=part,
            drafts=drafted,
        )
    print_counts(out, manifest.counts)


def merge_responses(
    shards: Annotated[
        list[str],
        typer.Argument(help="The responses of all shards.", **PATH | {"metavar": "SHARDS"}),
    ],
    annotated: AnnotatedFile,
    out: Annotated[str, out_option("Where all responses go (JSON Lines).")],
    overwrite: Overwrite = False,
) -> None:
    """Put the shards of a generation together, as if there had been one."""
    records, parts = fetch(annotated), [fetch(shard) for shard in shards]
    ours = made_from("responses", annotated=records)
    check_output(out, ours, inputs=[annotated, *shards], overwrite=overwrite)
    from tspin.generate.shards import merge_responses as step

    with output_at(out) as output, tracked_step(Step("merge-responses", output.path)):
        manifest = step(parts, annotated=records, out=output.path)
    print_counts(out, manifest.counts)
