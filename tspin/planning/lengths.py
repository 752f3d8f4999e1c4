"""The lengths of the data in tokens, as training tokenises them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.models.configuration import token_limit
from tspin.records.records import (
    AnnotatedRecord,
    Response,
    Triplet,
    read_records,
    record_error,
)
from tspin.records.samples import with_demonstration
from tspin.seeds import choose
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate

__all__ = ["TOKENISED", "DataLengths", "RecordLengths", "data_lengths"]

TOKENISED = 5_000
"""Records of a file that are tokenised; of a larger one every so many-th."""


@dataclass(frozen=True)
class RecordLengths:
    """Of one annotated record."""

    prompt: int
    """Tokens."""
    annotated: int
    """Tokens of the annotation, end token included."""
    text_bytes: int = 0
    """Of the annotation's text as it stands in a file."""
    response_bytes: int = 0
    """Of a line of responses that holds it."""
    triplet_bytes: int = 0
    """Of a triplet that holds it three times."""
    taught: int = 0
    """Tokens of the prompt with the annotation in it, where a teacher sees that."""
    fits: bool = True
    """Whether it is trained or measured; a record that is answered may yet be left out of that."""

    def emitted(self, limit: int, *, most: bool) -> int:
        """Tokens of a response of the policy, its end token included where it is not cut off.

        Args:
            limit: generate.max_new_tokens, or that of an evaluation.
            most: As long as may be; otherwise as long as the annotation.
        """
        return limit if most else min(self.annotated, limit)

    def longer(self, emitted: int) -> float:
        """Bytes by which a text of so many tokens is longer than the annotation's; or below 0."""
        return self.text_bytes * (emitted / self.annotated - 1)


@dataclass(frozen=True)
class DataLengths:
    """Of one file of annotated records."""

    records: int
    """That are used: all but those whose prompt leaves no room for a response."""
    tokenised: int
    """Records that were looked at."""
    lengths: list[RecordLengths]
    """Of those of them that are used."""

    @property
    def each(self) -> float:
        """Records that each of `lengths` stands for."""
        return self.records / len(self.lengths)

    @property
    def sampled(self) -> bool:
        """Whether not all of the file was tokenised."""
        return self.records > len(self.lengths)


def data_lengths(
    config: RunConfig, annotated: Path, heldout: Path | None
) -> tuple[DataLengths, DataLengths | None]:
    """Tokenise the annotated and the held-out records.

    Args:
        config: Names the model, whose tokenizer is read, and the limits.
        annotated: On this machine.
        heldout: On this machine; None where there are none.

    Raises:
        InputError: a broken record, one that the run would refuse for its length, or none.
    """
    template = load_template(config.model.path, config.model, config.prompt)
    limit = token_limit(config.model.path, config.model, config.prompt)
    new = config.generate.max_new_tokens
    # sft generates nothing to train on; else a prompt must leave room for a whole response.
    room = 0 if config.train.method == "sft" else new
    lengths = _read(config, annotated, template, limit, room, None, trained=True)
    if heldout is None:
        return lengths, None
    room = config.evaluate.max_new_tokens or new
    return lengths, _read(config, heldout, template, limit, room, config.evaluate.max_records)


def _read(
    config: RunConfig,
    path: Path,
    template: PromptTemplate,
    limit: int,
    room: int,
    most: int | None,
    *,
    trained: bool = False,
) -> DataLengths:
    records, chosen = _chosen(path, most)
    lengths: list[RecordLengths] = []
    for record in chosen:
        one = _lengths(path, record, template, config.train.demonstration if trained else None)
        needed = max(one.prompt, one.taught) + max(room, one.annotated)
        if needed > limit and config.prompt.over_long == "error":
            raise record_error(path, record.id, _too_long(record.id, needed, room, limit))
        if one.prompt + room <= limit:
            lengths.append(replace(one, fits=needed <= limit))
    if not any(one.fits for one in lengths):
        raise InputError(f"{path}: no record that fits {limit:,} tokens, with {room:,} new ones")
    tokenised = len(chosen)
    return DataLengths(round(records * len(lengths) / tokenised), tokenised, lengths)


def _chosen(path: Path, most: int | None) -> tuple[int, list[AnnotatedRecord]]:
    """How many records are used, and those that are looked at."""
    total = sum(1 for _ in read_records(path, AnnotatedRecord))
    if most is not None and most < total:
        names = {*choose((record.id for record in read_records(path, AnnotatedRecord)), most)}
        total = len(names)
    else:
        names = set()
    step = -(-total // TOKENISED) or 1

    def used() -> Iterator[AnnotatedRecord]:
        for record in read_records(path, AnnotatedRecord):
            if not names or record.id in names:
                yield record

    return total, [record for at, record in enumerate(used()) if at % step == 0]


def _lengths(
    path: Path, record: AnnotatedRecord, template: PromptTemplate, demonstration: str | None
) -> RecordLengths:
    taught = 0
    try:
        prompt = len(template.record_prompt_ids(record))
        if demonstration is not None:
            shown = with_demonstration(record, demonstration)
            taught = len(template.record_prompt_ids(shown))
        annotated = len(template.annotated_ids(record))
    except InputError as error:
        raise record_error(path, record.id, str(error)) from None
    text = record.response
    response = Response(
        id=record.id,
        response=text,
        finish_reason="stop",
        prompt_tokens=prompt,
        response_tokens=annotated,
        seed=2**62,  # Most seeds have as many digits.
    )
    triplet = Triplet(
        id=record.id,
        messages=record.messages,
        tools=record.tools,
        annotated=text,
        synthetic=text,
        proto_synthetic=text,
    )
    return RecordLengths(
        prompt,
        annotated,
        text_bytes=len(orjson.dumps(text)),
        response_bytes=_line(response),
        triplet_bytes=_line(triplet),
        taught=taught,
    )


def _line(record: Response | Triplet) -> int:
    return len(orjson.dumps(record.as_json(), option=orjson.OPT_APPEND_NEWLINE))


def _too_long(identity: str, needed: int, room: int, limit: int) -> str:
    return (
        f"record {identity!r} needs {needed:,} tokens with its annotation, or with {room:,} new "
        f"ones, more than {limit:,}, the smaller of prompt.max_length and the model's context; the "
        "run would refuse it: raise prompt.max_length, lower max_new_tokens, or set "
        "prompt.over_long to 'drop'"
    )
