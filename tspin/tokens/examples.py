"""Tokenised training examples from a triplets file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from tspin.config import SUPERVISED, TrainConfig
from tspin.errors import InputError, located
from tspin.records.records import (
    AnnotatedRecord,
    Triplet,
    is_annotated,
    read_records,
)
from tspin.records.samples import EARLIER, Selection, generated_samples, with_demonstration
from tspin.tokens.prompts import PromptTemplate

__all__ = ["ROLES", "Example", "Examples", "load_examples", "roles_of"]

Ids: TypeAlias = npt.NDArray[np.int32]

ROLES = ("annotated", "synthetic", "proto_synthetic")
"""y, y' and y0: the order of responses everywhere in training."""


def roles_of(train: TrainConfig, iteration: int) -> tuple[str, ...]:
    """The responses that a method's loss reads; y0 only where the historical advantage counts."""
    if train.method in SUPERVISED:
        return ROLES[:1]
    history = train.history_at(iteration)
    return (*ROLES[:2], *ROLES[2:][: len(history)], *(EARLIER for _ in history[1:]))


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the responses to train on, as token ids (4 bytes a token)."""

    id: str
    prompt: Ids
    responses: tuple[Ids, ...]
    """In the order of `roles_of`, as many as the method reads; each with its end token."""
    samples: int = 1
    """How many of the responses are y'."""
    teacher_prompt: Ids | None = None
    """The prompt with the annotation in it, where a method teaches the policy by that."""

    def of_sample(self, sample: int) -> tuple[Ids, ...]:
        """The responses with one y' alone: one of each role."""
        if len(self.responses) == 1:
            return self.responses
        annotated, synthetic = self.responses[0], self.responses[1 + sample]
        return (annotated, synthetic, *self.responses[1 + self.samples :])

    @property
    def identical(self) -> bool:
        """Whether all responses are the same tokens, so that nothing can be told from them."""
        first = self.responses[0]
        return all(np.array_equal(first, other) for other in self.responses[1:])

    @property
    def length(self) -> int:
        """Tokens of the longest sequence: the prompt, or the teacher's, and one response."""
        return self.prompt_length + max(len(response) for response in self.responses)

    @property
    def packed_length(self) -> int:
        """Tokens in a packed row: prompt and different responses, each without its last token."""
        different = {response.tobytes(): len(response) for response in self.responses}
        return self.prompt_length + sum(max(length - 1, 0) for length in different.values())

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt, or of the teacher's if that is longer."""
        taught = () if self.teacher_prompt is None else self.teacher_prompt
        return max(len(self.prompt), len(taught))


@dataclass
class Examples(Dataset[dict[str, Any]]):
    """The dataset that the trainer draws from; items are what `TripletCollator` takes."""

    rows: list[Example]
    dropped: list[str] = field(default_factory=list)
    """Ids of the records left out because they are longer than the limit."""
    reference_logps: npt.NDArray[np.float64] | None = None
    """Summed logps of the reference policy in nats, shape (samples, roles), if the method needs
    them; see `places`."""

    def __post_init__(self) -> None:
        self._starts = [0, *accumulate(row.samples for row in self.rows)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, 0)

    def items(self, index: int) -> list[dict[str, Any]]:
        """What a collator takes of an example: an item for each y', which says its number."""
        samples = self.rows[index].samples
        if samples == 1:
            return [self[index]]
        return [self._item(index, sample) | {"sample": sample} for sample in range(samples)]

    def places(self, indices: Sequence[int]) -> list[int]:
        """Numbers of these examples' samples, among those of all examples in their order."""
        return [
            place
            for index in indices
            for place in range(self._starts[index], self._starts[index + 1])
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """Samples of all examples, and roles."""
        return self._starts[-1], len(self.rows[0].of_sample(0))

    def _item(self, index: int, sample: int) -> dict[str, Any]:
        row, known = self.rows[index], self.reference_logps
        ids = [response.tolist() for response in row.of_sample(sample)]
        names = (*ROLES, *(f"{EARLIER}_{number}" for number in range(1, len(ids) - 2)))
        responses = dict(zip((f"{name}_ids" for name in names), [*ids, None, None], strict=False))
        place = self._starts[index] + sample
        taught = row.teacher_prompt
        teacher = {} if taught is None else {"teacher_prompt_ids": taught.tolist()}
        return teacher | {
            "id": row.id,
            "prompt_ids": row.prompt.tolist(),
            **responses,
            "reference_logps": None if known is None else known[place].tolist(),
        }

    @property
    def further(self) -> int:
        """Examples beside the first of their prompt: what a `Selection` has added."""
        return len(self.rows) - len({row.id for row in self.rows})

    def sizes(self) -> list[tuple[int, int, int]]:
        """Of each example its tokens packed, of its longest sequence, and its responses."""
        return [(row.packed_length, row.length, len(row.responses)) for row in self.rows]

    def shortest(self) -> dict[str, Any]:
        """The example with the shortest sequence."""
        return self[min(range(len(self)), key=lambda index: self.rows[index].length)]

    def extremes(self) -> list[tuple[list[int], list[list[int]]]]:
        """Prompt and responses of the shortest example and of the longest, by one sequence."""
        by_length = sorted(self.rows, key=lambda row: row.length)
        return [
            (row.prompt.tolist(), [response.tolist() for response in row.responses])
            for row in (by_length[0], by_length[-1])
        ]

    def mean_length(self, role: int) -> float:
        """Mean over the prompts of one role's mean tokens, each response with its end token."""
        means = (
            sum(len(row.of_sample(sample)[role]) for sample in range(row.samples)) / row.samples
            for row in self.rows
        )
        return sum(means) / len(self.rows)


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
    rows: list[Example] = []
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
