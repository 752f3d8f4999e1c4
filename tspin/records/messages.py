"""The turns of a conversation and the order in which they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, Self

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

__all__ = [
    "INSTRUCTION",
    "Message",
    "Objects",
    "Role",
    "Strict",
    "Turn",
    "content_id",
    "instruction_prompt",
    "order_problem",
    "present",
]

Role = Literal["system", "user", "assistant", "tool"]

Objects = Annotated[list[dict[str, Any]], Field(min_length=1)]
"""Tool calls, or the tools that may be called, in the shape of OpenAI's chat completions."""

INSTRUCTION = "### Instruction: {content}\n\n### Response: "
"""The papers' template of a user turn, without a chat template."""

_ONLY_OF: dict[str, Role] = {
    "tool_calls": "assistant",
    "reasoning_content": "assistant",
    "tool_call_id": "tool",
    "name": "tool",
}
"""The fields that turns of one role alone may have."""

_AFTER: dict[str | None, tuple[str, ...]] = {
    None: ("system", "user", "assistant"),
    "system": ("user", "assistant"),
    "user": ("assistant",),
    "assistant": ("user",),
    "tool": ("tool", "assistant"),
}
"""By role of a turn, what may follow it; after an assistant's that calls tools, `tool` too."""


class Strict(BaseModel):
    """What stands in a file: no field too many, none of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Turn(Protocol):
    """A turn, checked by this module or not yet."""

    @property
    def role(self) -> Role:
        """Who speaks."""

    @property
    def tool_calls(self) -> list[dict[str, Any]] | None:
        """The tools that are called."""

    def as_json(self) -> dict[str, Any]:
        """The turn as it stands in a file."""


class Message(Strict):
    """One turn of a conversation. Fields that are None stand in no file and reach no template."""

    role: Role
    content: str
    reasoning_content: Annotated[str, Field(min_length=1)] | None = None
    """What the assistant thought before it answered."""
    tool_calls: Objects | None = None
    """The tools that the assistant calls; `content` may be empty then."""
    tool_call_id: str | None = None
    """The call whose result a tool turn is."""
    name: str | None = None
    """The tool whose result a tool turn is."""

    @model_validator(mode="after")
    def _fields_belong_to_the_role(self) -> Self:
        for name, role in _ONLY_OF.items():
            if getattr(self, name) is not None and self.role != role:
                raise ValueError(f"'{name}' belongs to turns of {role}, not of {self.role}")
        return self

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return present(serialize(self))

    def as_json(self) -> dict[str, Any]:
        """The turn as it stands in a file and as a chat template takes it."""
        return present(self.__dict__)


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def instruction_prompt(turns: Iterable[Mapping[str, Any]]) -> str:
    """The papers' template around user turns; other turns and an empty line stand before them.

    System and earlier turns are this project's rule: the papers have one user turn.
    """
    return "".join(
        INSTRUCTION.replace("{content}", turn["content"])
        if turn["role"] == "user"
        else turn["content"] + "\n\n"
        for turn in turns
    )


def order_problem(turns: Sequence[Turn], last: tuple[Role, ...]) -> str | None:
    """What is wrong with the order of turns; None where nothing is.

    An assistant may greet before the first user turn: that belongs to the prompt.

    Args:
        turns: Of one conversation.
        last: The roles that may come last.
    """
    before: str | None = None
    in_order, calls, asked = True, False, False
    for turn in turns:
        role = turn.role
        if role not in _AFTER[before] and not (calls and role == "tool"):
            in_order = False
        before, calls = role, turn.tool_calls is not None
        asked = asked or role == "user"
    if in_order and asked and before in last:
        return None
    roles = [turn.role for turn in turns]
    shown = ", ".join(roles[:8]) + (", ..." if len(roles) > 8 else "")
    tools = ", tool turns only after an assistant turn with 'tool_calls'"
    return (
        f"has the roles [{shown}]; right would be an optional system turn, then user and assistant "
        f"in turn{tools if 'tool' in roles else ''}, ending with {' or '.join(last)}"
    )


def content_id(
    messages: Iterable[Turn], response: str, further: Mapping[str, Any] | None = None
) -> str:
    """A stable id from a record's content: 16 hex digits of SHA-256.

    Args:
        messages: The prompt.
        response: To it.
        further: What else the record has: `tools`, and the response's `reasoning_content` and
            `tool_calls`. None of them counts where it is None, so that records without them have
            the ids that they always had.
    """
    turns = []
    for message in messages:
        fields = message.as_json()
        turn = [fields.pop("role"), fields.pop("content")]
        turns.append([*turn, fields] if fields else turn)
    parts: list[Any] = [turns, response]
    if further is not None and (rest := present(further)):
        parts.append(rest)
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
