"""Commands that join responses to triplets, and that train on them."""

from __future__ import annotations

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
from tspin.cli.steps.options import Model, out_option, print_counts
from tspin.monitoring.monitored import check_endpoint, monitored
from tspin.outputs import begins_with, check_output, checkpoint_folder, made_from
from tspin.records.records import AnnotatedRecord, Response, is_annotated
from tspin.records.training_log import TRAIN_LOG
from tspin.store import is_remote, output_at
from tspin.tracking.tracked import Step, tracked_step
from tspin.tracking.trackers import check_trackers

__all__ = ["build_triplets", "train"]

Proto = Annotated[str, typer.Option(help="Responses of the initial policy.", **PATH)]
Earlier = Annotated[
    list[str] | None,
    typer.Option(
        help="For method tspin_all, responses of iteration 1, of 2, and so on up to the one "
        "before; may be repeated.",
        **PATH,
    ),
]


def build_triplets(
    annotated: AnnotatedFile,
    synthetic: Annotated[str, typer.Option(help="Responses of the current policy.", **PATH)],
    proto: Proto,
    out: Annotated[str, out_option("Where the triplets go (JSON Lines).")],
    earlier: Earlier = None,
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
    before = [local_records(path, Response) for path in earlier or []]
    hashed = {"proto_synthetic" if name == "proto" else name: at for name, at in sources.items()}
    hashed |= {f"earlier_synthetic_{at}": path for at, path in enumerate(before, start=1)}
    inputs = [annotated, synthetic, proto, *(earlier or []), config]
    check_output(out, made_from("triplets", **hashed), inputs=inputs, overwrite=overwrite)
    from tspin.triplets import build_triplets as step

    with output_at(out) as output, tracked_step(Step("build-triplets", output.path)):
        manifest = step(settings.triplets, **sources, out=output.path, earlier=before)
    print_counts(out, manifest.counts)


def train(
    model: Model,
    triplets: Annotated[
        str, typer.Option(help="Triplets; for sft also annotated records.", **PATH)
    ],
    out: Annotated[str, out_option("Folder of the next model.")],
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
    check_trackers(settings)
    check_endpoint(settings)
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

    with (
        monitored(settings),
        output_at(out) as output,
        tracked_step(Step("train", output.path, iteration, settings)),
    ):
        manifest = step(
            settings,
            model=policy,
            triplets=examples,
            iteration=iteration,
            out=output.path,
            checkpoints=checkpoints,
        )
    print_counts(out, manifest.counts)
