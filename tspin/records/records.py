"""The records of every JSON Lines file: annotated pairs, responses, triplets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError, model_validator

from tspin.errors import InputError, located
from tspin.files import atomic_file
from tspin.records.messages import Message, Objects, Strict, content_id, order_problem, present

__all__ = [
    "AnnotatedRecord",
    "FinishReason",
    "FurtherSample",
    "Message",
    "Response",
    "ResponseKey",
    "Triplet",
    "check_first_record",
    "content_id",
    "describe",
    "is_annotated",
    "read_located",
    "read_record_at",
    "read_records",
    "record_error",
    "write_records",
]

FinishReason = Literal["stop", "length"]

Thought = Annotated[str, Field(min_length=1)]

ResponseKey = tuple[str, int]
"""Id of a prompt, and number of the response to it."""


def _without_zeros(fields: dict[str, Any]) -> dict[str, Any]:
    """Without counts of special tokens, and numbers of samples, that are 0, as nearly all are."""
    return {k: v for k, v in fields.items() if v or not k.endswith(("special_tokens", "sample"))}


class _Prompted(Strict):
    """A record with an id and a conversation that ends with a user turn, or a tool's.

    JSON may give `prompt` (one user turn) instead of `messages`; never both.
    """

    id: str = Field(min_length=1)
    messages: list[Message]
    tools: Objects | None = None
    """The tools that may be called, as the chat template takes them."""

    @model_validator(mode="before")
    @classmethod
    def _prompt_is_one_user_turn(cls, value: Any) -> Any:
        if isinstance(value, dict) and "prompt" in value:
            if "messages" in value:
                raise ValueError("has both 'prompt' and 'messages'; give one of the two")
            rest = {key: item for key, item in value.items() if key != "prompt"}
            return {**rest, "messages": [{"role": "user", "content": value["prompt"]}]}
        return value

    @model_validator(mode="after")
    def _turns_are_in_order(self) -> Self:
        problem = order_problem(self.messages, ("user", "tool"))
        if problem is not None:
            raise ValueError(f"'messages' {problem}")
        return self

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in a file: `prompt` where one user turn is all there is."""
        fields = present(self.__dict__)
        head: dict[str, Any] = {"id": fields.pop("id")}
        messages: list[Message] = fields.pop("messages")
        if len(messages) == 1:
            head["prompt"] = messages[0].content
        else:
            head["messages"] = [message.as_json() for message in messages]
        return {**head, **fields}


class AnnotatedRecord(_Prompted):
    """A prompt and the expert's response to it."""

    response: str
    """May be empty where there are `tool_calls`."""
    reasoning_content: Thought | None = None
    """What the expert thought before the response."""
    tool_calls: Objects | None = None
    """The tools that the response calls."""


class Response(Strict):
    """One generated response; `length` marks one cut off at the token limit."""

    id: str = Field(min_length=1)
    response: str
    finish_reason: FinishReason
    prompt_tokens: int = Field(ge=0)
    response_tokens: int = Field(ge=0)
    """As the model emitted them, without the end token."""
    seed: int
    special_tokens: int = Field(0, ge=0)
    """Special tokens that the model emitted before its end; `response` has their names."""
    sample: int = Field(0, ge=0)
    """Which of the responses to the prompt it is, from 0."""

    @property
    def key(self) -> ResponseKey:
        """What it is among the responses to all prompts."""
        return self.id, self.sample

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in a file."""
        return _without_zeros(self.model_dump())


class FurtherSample(Strict):
    """A synthetic response beside the first one."""

    response: str
    finish_reason: FinishReason = "stop"
    special_tokens: int = Field(0, ge=0)
    """As of the response that it was."""

    @classmethod
    def of(cls, response: Response) -> Self:
        """What a triplet keeps of a response."""
        return cls(
            response=response.response,
            finish_reason=response.finish_reason,
            special_tokens=response.special_tokens,
        )

    def as_json(self) -> dict[str, Any]:
        """The sample as it stands in a file."""
        return _without_zeros(self.model_dump())


class Triplet(_Prompted):
    """The annotated response y, the synthetic y' and the proto-synthetic y0 of one prompt."""

    annotated: str
    annotated_reasoning_content: Thought | None = None
    annotated_tool_calls: Objects | None = None
    synthetic: str
    proto_synthetic: str
    synthetic_finish_reason: FinishReason = "stop"
    proto_synthetic_finish_reason: FinishReason = "stop"
    synthetic_special_tokens: int = Field(0, ge=0)
    """As of the response that it was."""
    proto_synthetic_special_tokens: int = Field(0, ge=0)
    further_synthetic: Annotated[list[FurtherSample], Field(min_length=1)] | None = None
    """Where the policy gave several responses, those besides `synthetic`."""
    earlier_synthetic: Annotated[list[FurtherSample], Field(min_length=1)] | None = None
    """For tspin_all, one of each policy between that of y0 and that of y', oldest first."""

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in a file."""
        fields = _without_zeros(super().as_json())
        for name in ("further_synthetic", "earlier_synthetic"):
            if name in fields:
                fields[name] = [one.as_json() for one in getattr(self, name)]
        return fields


Record = TypeVar("Record", AnnotatedRecord, Response, Triplet)

_NAMES: dict[type[BaseModel], str] = {
    AnnotatedRecord: "annotated records",
    Response: "responses",
    Triplet: "triplets",
}
"""What messages call them."""


def describe(error: ValidationError) -> str:
    """The first problem of a validation error: field, value, and what would be right."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"field '{field}' is missing"
    if problem["type"] == "extra_forbidden":
        return f"field '{field}' is not a field of this record; remove it"
    message = problem["msg"].removeprefix("Value error, ")
    if not field:
        return message
    return f"field '{field}' is {problem['input']!r:.80}: {message}"


def read_records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yield the records of a JSON Lines file, one line in memory at a time.

    Raises:
        InputError: as `read_located`.
    """
    return (record for _, record in read_located(path, kind))


def check_first_record(path: Path, kind: type[Record]) -> None:
    """Refuse a file of another kind, or none, for the price of a line.

    Raises:
        InputError: as `read_located`, for the first record.
    """
    next(read_records(path, kind), None)


def is_annotated(path: Path) -> bool:
    """Whether a file holds annotated records rather than triplets, by its first line."""
    if not path.is_file():
        return False  # read_records says so
    with path.open("rb") as file:
        first = file.readline()
    try:
        record = orjson.loads(first)
    except orjson.JSONDecodeError:
        return False  # read_records names the line
    return isinstance(record, dict) and "response" in record


def read_located(path: Path, kind: type[Record]) -> Iterator[tuple[int, Record]]:
    """Yield each record of a JSON Lines file with the byte offset of its line.

    Raises:
        InputError: the file is missing, or a line is not UTF-8, not JSON, not such a record,
            or has an id that an earlier line has (of responses: an id and a sample); with file,
            line and field.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {_NAMES[kind]} (JSON Lines)")
    seen: set[bytes] = set()
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = _parse(path, number, line, kind)
            # 8 bytes an id instead of the id: a million records stay under 100 MB.
            sample = record.sample if isinstance(record, Response) else 0
            identity = record.id.encode() + (b"\0%d" % sample if sample else b"")
            key = hashlib.blake2b(identity, digest_size=8).digest()
            if key in seen:
                name = f"id {record.id!r}" + (f", sample {sample}," if sample else "")
                raise located(path, number, f"{name} stands on an earlier line too")
            seen.add(key)
            yield offset, record
            offset += len(line)


def read_record_at(file: IO[bytes], offset: int, kind: type[Record]) -> Record:
    """The record whose line begins at a byte offset that `read_located` gave.

    Args:
        file: Open for reading bytes.
        offset: Of the record's first byte, from `read_located`.
        kind: The record's class.
    """
    file.seek(offset)
    return kind.model_validate(orjson.loads(file.readline()))


def _parse(path: Path, number: int, line: bytes, kind: type[Record]) -> Record:
    try:
        return kind.model_validate(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise located(path, number, f"not a JSON object in UTF-8: {error}") from None
    except ValidationError as error:
        raise located(path, number, describe(error)) from None


def record_error(path: Path, identity: str, message: str) -> InputError:
    """An error about a record, with the line of the file that it stands on.

    Args:
        path: A JSON Lines file.
        identity: The record's id.
        message: What is wrong, and what would be right.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if orjson.loads(line).get("id") == identity:
                return located(path, number, message)
    return located(path, None, message)


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write records as JSON Lines, whole or not at all; returns how many."""
    count = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(orjson.dumps(record.as_json()) + b"\n")
            count += 1
    return count
