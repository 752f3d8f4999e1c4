"""Tokenised training examples from a triplets file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from tspin.errors import InputError, located
from tspin.records.records import (
    AnnotatedRecord,
    Triplet,
    is_annotated,
    read_records,
)
from tspin.records.samples import Selection, generated_samples, with_demonstration
from tspin.tokens.examples.dataset import Examples
from tspin.tokens.examples.example import Example
from tspin.tokens.examples.packed import PackedExamples
from tspin.tokens.prompts import PromptTemplate

__all__ = ["load_examples"]


def load_examples(
    path: Path,
    template: PromptTemplate,
    *,
    roles: tuple[str, ...],
    max_length: int,
    over_long: Literal["error", "drop"],
    selection: Selection | None = None,
    demonstration: str | None = None,
) -> Examples:
    """Read and tokenise triplets; with the one role `annotated`, annotated records too.

    A response that generation cut off gets no end token: the policy never emitted one.

    Args:
        path: Triplets, or annotated records if `roles` is just y.
        template: How prompts and responses become tokens.
        roles: Which responses are needed (see `roles_of`).
        max_length: Of prompt and response together, in tokens
            (`tspin.models.configuration.token_limit`).
        over_long: Refuse a longer record, or leave it out and note its id.
        selection: Of triplets, the samples that are examples of their own beside y; only with the
            one role `annotated`.
        demonstration: How the annotation stands in a teacher's prompt; None without a teacher.

    Raises:
        InputError: a broken line, a record that is too long, or no record left; with file and
            line.
    """
    rows = PackedExamples()
    dropped: list[str] = []
    for line, record in enumerate(_records(path, roles), start=1):
        try:
            examples = [_tokenise(record, template, roles, demonstration)]
            if selection is not None and isinstance(record, Triplet):
                examples += _selected(record, examples[0], template, selection)
        except InputError as error:
            raise located(path, line, str(error)) from None
        for example in examples:
            if example.length <= max_length:
                rows.append(example)
            elif over_long == "drop":
                dropped.append(record.id)
            else:
                raise located(path, line, _too_long(example, roles, max_length))
    if not rows:
        left_out = f" that fit {max_length} tokens" if dropped else ""
        raise InputError(f"{path}: no records{left_out} to train on")
    return Examples(rows, dropped)


def _records(path: Path, roles: tuple[str, ...]) -> Iterator[Triplet | AnnotatedRecord]:
    if len(roles) == 1 and is_annotated(path):
        return read_records(path, AnnotatedRecord)
    return read_records(path, Triplet)


def _tokenise(
    record: Triplet | AnnotatedRecord,
    template: PromptTemplate,
    roles: tuple[str, ...],
    demonstration: str | None,
) -> Example:
    responses, samples = [template.annotated_ids(record)], 1
    _refuse_end_inside(record.id, responses[0], template)
    if isinstance(record, Triplet) and len(roles) > 1:
        samples = 1 + len(record.further_synthetic or ())
        responses += [
            template.response_ids(
                one.response, finished=one.finish_reason == "stop", specials=one.special_tokens > 0
            )
            for one in generated_samples(record, roles)
        ]
    prompts = (
        [record] if demonstration is None else [record, with_demonstration(record, demonstration)]
    )
    prompt, *taught = (np.array(template.record_prompt_ids(one), dtype=np.int32) for one in prompts)
    return Example(
        id=record.id,
        prompt=prompt,
        responses=tuple(np.array(response, dtype=np.int32) for response in responses),
        samples=samples,
        teacher_prompt=taught[0] if taught else None,
    )


def _selected(
    record: Triplet, annotated: Example, template: PromptTemplate, selection: Selection
) -> list[Example]:
    """An example for each sample that is trained on like an annotation."""
    return [
        replace(annotated, responses=(np.array(response, dtype=np.int32),))
        for sample in selection(record)
        if (
            response := template.response_ids(
                sample.response, finished=True, specials=sample.special_tokens > 0
            )
        )
    ]


def _refuse_end_inside(identity: str, annotated: list[int], template: PromptTemplate) -> None:
    """Refuse a response that the model could never give to its end."""
    inside = [index for index in annotated[:-1] if index in template.stop_ids]
    if inside:
        name = template.token_name(inside[0])
        raise InputError(
            f"record {identity!r}: its annotated response contains {name!r}, at which the model "
            "stops (eos_token_id in its generation_config.json); remove it from the text, or "
            "there, if it ends nothing"
        )


def _too_long(example: Example, roles: tuple[str, ...], max_length: int) -> str:
    lengths = [len(response) for response in example.responses]
    longest = lengths.index(max(lengths))
    role = (roles[0], *roles[1:2] * example.samples, *roles[2:])[longest]
    prompt = f"{example.prompt_length} prompt tokens"
    if example.prompt_length > len(example.prompt):
        prompt += " with its annotation for the teacher (train.sdft_template)"
    return (
        f"record {example.id!r} has {prompt} and {lengths[longest]} in '{role}', more than "
        f"{max_length}, the smaller of prompt.max_length and the model's context; raise "
        "prompt.max_length if that is the smaller, or set prompt.over_long to drop"
    )
