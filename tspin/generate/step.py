"""The generate step: synthetic responses from a policy to every annotated prompt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tspin.config import RunConfig
from tspin.engines import SamplingParams, engine_name, engine_parameters, open_engine
from tspin.errors import InputError
from tspin.generate.responses import ResponseCounts, write_responses
from tspin.generate.shards import WHOLE, Shard
from tspin.models.configuration import token_limit
from tspin.models.folder import ModelFolder, find_model
from tspin.models.threads import Work
from tspin.progress.status import at_work
from tspin.records.arithmetic import Arithmetic, begun_path
from tspin.records.manifest import (
    Manifest,
    content_hash,
    forget,
    is_current,
    read_manifest,
    write_manifest,
)
from tspin.records.records import AnnotatedRecord, read_records
from tspin.records.step_clock import kept, timed_step
from tspin.seeds import derive_seed
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate

__all__ = ["generate"]


@timed_step("generate")
def generate(
    config: RunConfig,
    *,
    model: str,
    annotated: Path,
    out: Path,
    iteration: int,
    shard: Shard = WHOLE,
    samples: int | None = None,
    arithmetic: Arithmetic | None = None,
    drafts: Path | None = None,
) -> Manifest:
    """Sample a response to every prompt of an annotated file from a policy, or several.

    Returns at once if `out` is current, and continues where a killed run stopped (see
    `tspin.generate.responses.write_responses`).

    Args:
        config: `generate`, `prompt`, `seed`, `model` and `system` are used.
        model: The policy: a model folder, an adapter folder, or a name on the Hub.
        annotated: Annotated records; their responses decide nothing, and are refused here if
            training would refuse them.
        out: Response records, in the order of `annotated`.
        iteration: Part of every seed, so that iterations draw anew.
        shard: Which of the records to answer; `merge_responses` joins them.
        samples: Responses to each; None are `generate.samples`.
        arithmetic: What the run was begun with; None outside of a run (`tspin.models.threads`).
        drafts: Responses of the iteration before, if there are any: drawn with the same noise, they
            spare `transformers` forward passes. They decide rounding alone, and no manifest.

    Returns:
        The manifest of `out`, with the finish reasons counted and the over-long records listed.

    Raises:
        InputError: broken records or configuration, no such model, an over-long prompt.
        TspinError: the work failed; run again to continue.
    """
    config = config if samples is None else _with_samples(config, samples)
    folder = find_model(model, config.model, weights=False)
    template = load_template(folder, config.model, config.prompt)
    manifest = _wanted(config, folder, annotated, iteration, template, shard)
    if is_current(out, manifest) and (current := read_manifest(out)) is not None:
        return current
    forget(out)
    work = Work(config.system, manifest, begun_path(out), arithmetic, inputs={"the policy": model})
    with work.computing() as signed, at_work("generate", iteration), kept(out, manifest):
        answered = _answer(config, folder, template, annotated, shard, manifest, out, drafts)
        results = {"counts": answered.counts, "dropped_ids": answered.dropped_ids}
        return write_manifest(out, signed.model_copy(update=results))


def _with_samples(config: RunConfig, samples: int) -> RunConfig:
    settings = config.generate.model_copy(update={"samples": samples})
    return config.model_copy(update={"generate": settings})


def _answer(
    config: RunConfig,
    folder: ModelFolder,
    template: PromptTemplate,
    annotated: Path,
    shard: Shard,
    manifest: Manifest,
    out: Path,
    drafts: Path | None,
) -> ResponseCounts:
    # Coupled, all iterations draw as the first one does, whose responses are then the same.
    drawn = 0 if config.generate.coupled else manifest.iteration or 0
    return write_responses(
        open_engine=lambda: open_engine(config, folder, template),
        template=template,
        records=shard.select(read_records(annotated, AnnotatedRecord)),
        source=annotated,
        sampling=SamplingParams.of(config.generate),
        seed_of=lambda record: derive_seed(config.seed, "synthetic", drawn, record),
        out=out,
        decisive={"model": manifest.model, "engine": manifest.engine, **engine_parameters(config)},
        max_length=token_limit(folder, config.model, config.prompt),
        over_long=config.prompt.over_long,
        drafts=drafts if _alike(config) else None,
        samples=config.generate.samples,
    )


def _alike(config: RunConfig) -> bool:
    """Whether responses of two iterations share what they can: then drafts are worth it."""
    sampling = config.generate
    return config.system.drafts and (sampling.coupled or sampling.temperature == 0)


def _wanted(
    config: RunConfig,
    folder: ModelFolder,
    annotated: Path,
    iteration: int,
    template: PromptTemplate,
    shard: Shard,
) -> Manifest:
    sampling, samples = SamplingParams.of(config.generate), config.generate.samples
    if not annotated.is_file():
        raise InputError(f"{annotated}: no such file; expected annotated records (JSON Lines)")
    return Manifest(
        kind="responses",
        inputs={"annotated": content_hash(annotated)},
        iteration=iteration,
        model=folder.identity(config.model),
        template=template.hash,
        engine=engine_name(config),
        parameters={
            **dataclasses.asdict(sampling),
            "stop": list(sampling.stop),  # As JSON gives it back, to compare.
            "max_length": config.prompt.max_length,
            "over_long": config.prompt.over_long,
            **engine_parameters(config),
            **({} if shard == WHOLE else {"shard": str(shard)}),
            **({"coupled": True} if config.generate.coupled and iteration else {}),
            # One is no news: responses that were made before there was a choice stay current.
            **({} if samples == 1 else {"samples": samples}),
        },
        seed=config.seed,
    )
