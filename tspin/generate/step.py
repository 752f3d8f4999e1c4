"""The generate step: one synthetic response from a policy to every annotated prompt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tspin.config import RunConfig
from tspin.engines import SamplingParams, engine_name, engine_parameters, open_engine
from tspin.errors import InputError
from tspin.generate.responses import write_responses
from tspin.generate.shards import WHOLE, Shard
from tspin.models.policy import load_tokenizer, policy_identity
from tspin.models.shape import context_length
from tspin.models.threads import Work, begun_path
from tspin.records.arithmetic import Arithmetic
from tspin.records.manifest import (
    Manifest,
    content_hash,
    forget,
    is_current,
    read_manifest,
    write_manifest,
)
from tspin.records.records import AnnotatedRecord, read_records
from tspin.seeds import derive_seed
from tspin.tokens.prompts import PromptTemplate

__all__ = ["generate"]


def generate(
    config: RunConfig,
    *,
    model: str,
    annotated: Path,
    out: Path,
    iteration: int,
    shard: Shard = WHOLE,
    arithmetic: Arithmetic | None = None,
) -> Manifest:
    """Sample a response to every prompt of an annotated file from a policy.

    Returns at once if `out` is in place and made from exactly these inputs, and continues where a
    killed run stopped (see `tspin.generate.responses.write_responses`).

    Args:
        config: `generate`, `prompt`, `seed`, `model` and `system` are used.
        model: The policy: a model folder, an adapter folder, or a name on the Hub.
        annotated: Annotated records; their responses are not looked at.
        out: Response records, in the order of `annotated`.
        iteration: Part of every seed, so that iterations draw anew.
        shard: Which of the records to answer; `merge_responses` puts shards together.
        arithmetic: What the run was begun with; None outside of a run (`tspin.models.threads`).

    Returns:
        The manifest of `out`, with the finish reasons counted and the over-long records listed.

    Raises:
        InputError: broken records or configuration, no such model, an over-long prompt.
        TspinError: the work failed; run again to continue.
    """
    sampling = SamplingParams(
        temperature=config.generate.temperature,
        top_p=config.generate.top_p,
        max_new_tokens=config.generate.max_new_tokens,
        stop=config.generate.stop,
    )
    template = PromptTemplate.load(load_tokenizer(model, config.model), config.prompt.template)
    wanted = _wanted(config, model, annotated, iteration, template, sampling)
    if shard != WHOLE:
        parameters = {**wanted.parameters, "shard": str(shard)}
        wanted = wanted.model_copy(update={"parameters": parameters})
    if is_current(out, wanted) and (made := read_manifest(out)) is not None:
        return made
    limits = (config.prompt.max_length, context_length(model, config.model))
    forget(out)
    work = Work(config.system, wanted, begun_path(out), arithmetic, inputs={"the policy": model})
    with work.computing() as signed:
        result = write_responses(
            open_engine=lambda: open_engine(config, model, template),
            template=template,
            records=shard.select(read_records(annotated, AnnotatedRecord)),
            sampling=sampling,
            seed_of=lambda record: derive_seed(config.seed, "synthetic", iteration, record),
            out=out,
            decisive={"model": wanted.model, "engine": wanted.engine, **engine_parameters(config)},
            max_length=min(limit for limit in limits if limit is not None),
            over_long=config.prompt.over_long,
        )
        return write_manifest(
            out,
            signed.model_copy(update={"counts": result.counts, "dropped_ids": result.dropped_ids}),
        )


def _wanted(
    config: RunConfig,
    model: str,
    annotated: Path,
    iteration: int,
    template: PromptTemplate,
    sampling: SamplingParams,
) -> Manifest:
    if not annotated.is_file():
        raise InputError(f"{annotated}: no such file; expected annotated records (JSON Lines)")
    return Manifest(
        kind="responses",
        inputs={"annotated": content_hash(annotated)},
        iteration=iteration,
        model=policy_identity(model, config.model),
        template=template.hash,
        engine=engine_name(config),
        parameters={
            **dataclasses.asdict(sampling),
            "stop": list(sampling.stop),  # As JSON gives it back, to compare.
            "max_length": config.prompt.max_length,
            "over_long": config.prompt.over_long,
            **engine_parameters(config),
        },
        seed=config.seed,
    )
