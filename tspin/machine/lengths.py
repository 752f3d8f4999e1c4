"""Whether a run's prompts can be made for its model, and whether its records fit the context."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.machine.check import Check
from tspin.machine.templates import check_template
from tspin.models.configuration import context_length, token_limit
from tspin.records.records import AnnotatedRecord, Triplet, read_records
from tspin.records.samples import with_demonstration
from tspin.store import is_remote
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate

__all__ = ["check_lengths"]

_LOOKED_AT = 10_000
"""Records that are tokenised; all of a large file would take minutes."""


def check_lengths(config: RunConfig) -> list[Check]:
    """Look at the model's template, its end tokens and its context, and at the records.

    Of a Hub model the metadata is fetched; records of a store are not looked at.
    """
    try:
        template = load_template(config.model.path, config.model, config.prompt)
        context = context_length(config.model.path, config.model)
        limit = token_limit(config.model.path, config.model, config.prompt)
        prompts = check_template(template)
        return [prompts, _check_limit(config, context), *_check_records(config, template, limit)]
    except InputError as error:
        return [Check("prompt.template", "fail", str(error))]


def _check_limit(config: RunConfig, context: int | None) -> Check:
    name, asked = "prompt.max_length", config.prompt.max_length
    if context is None or asked <= context:
        shown = "no limit" if context is None else f"{context:,} tokens"
        return Check(name, "ok", f"{asked:,} tokens; the model's context has {shown}")
    new = config.generate.max_new_tokens
    if new >= context:
        detail = (
            f"the model's context has {context:,} tokens, and generate.max_new_tokens is {new:,}: "
            "no prompt fits; lower that"
        )
        return Check(name, "fail", detail)
    detail = (
        f"is {asked:,}, but the model's context has {context:,} tokens: what is longer than that "
        f"falls under prompt.over_long ({config.prompt.over_long!r})"
    )
    return Check(name, "warn", detail)


def _check_records(config: RunConfig, template: PromptTemplate, limit: int) -> list[Check]:
    new = config.generate.max_new_tokens
    files = [
        # sft generates nothing to train on.
        ("data.annotated", config.data.annotated, 0 if config.train.method == "sft" else new),
        ("data.heldout", config.data.heldout, config.evaluate.max_new_tokens or new),
    ]
    return [
        _check_file(name, Path(location), template, new=new, limit=limit, config=config)
        for name, location, new in files
        if location is not None and not is_remote(location) and Path(location).is_file()
    ]


def _check_file(
    name: str, path: Path, template: PromptTemplate, *, new: int, limit: int, config: RunConfig
) -> Check:
    shown = config.train.demonstration if name == "data.annotated" else None
    name = f"lengths in {name}"
    try:
        records = islice(read_records(path, AnnotatedRecord), _LOOKED_AT)
        needs = [
            max(len(template.record_prompt_ids(one)) for one in _prompts(record, shown))
            + max(new, len(template.annotated_ids(record)))
            for record in records
        ]
    except InputError as error:
        return Check(name, "fail", str(error))
    looked = f"{'the first ' if len(needs) == _LOOKED_AT else ''}{len(needs):,} records"
    too_long = [number for number, need in enumerate(needs, start=1) if need > limit]
    if not too_long:
        return Check(name, "ok", f"{looked} fit {limit:,} tokens")
    detail = (
        f"{len(too_long):,} of {looked} need more than {limit:,} tokens with their response, or "
        f"with {new:,} new ones, the first at {path}:{too_long[0]}"
    )
    if config.prompt.over_long == "drop":
        return Check(name, "warn", f"{detail}; they will be dropped (prompt.over_long)")
    return Check(name, "fail", f"{detail}; set prompt.over_long to drop, or allow more tokens")


def _prompts(record: AnnotatedRecord, shown: str | None) -> list[AnnotatedRecord | Triplet]:
    """The record, and where a teacher sees its annotation, with that in the prompt."""
    return [record] if shown is None else [record, with_demonstration(record, shown)]
