"""What a conversation says, and whether a rendering of it says all of that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tspin.records.extractors import END_OF_THOUGHT
from tspin.records.records import AnnotatedRecord, Message, Triplet

__all__ = [
    "THOUGHT_TAGS",
    "Answer",
    "Conversation",
    "missing_from_answer",
    "missing_from_prompt",
    "named_turn",
]

THOUGHT_TAGS = ("<think>", "</think>")
"""Written out in an assistant's turn they are the tags that they look like."""

_TAGS = re.compile("|".join(map(re.escape, THOUGHT_TAGS)))


@dataclass(frozen=True)
class Answer:
    """The assistant turn that is trained."""

    content: str
    reasoning: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, record: AnnotatedRecord | Triplet) -> Answer:
        """The annotation of a record."""
        if isinstance(record, AnnotatedRecord):
            return cls(record.response, record.reasoning_content, record.tool_calls)
        return cls(
            record.annotated, record.annotated_reasoning_content, record.annotated_tool_calls
        )

    def turn(self) -> dict[str, Any]:
        """As a message."""
        fields = {"reasoning_content": self.reasoning, "tool_calls": self.tool_calls}
        kept = {name: value for name, value in fields.items() if value is not None}
        return {"role": "assistant", "content": self.content, **kept}

    def written(self, write: Callable[[str], str]) -> Answer:
        """The same answer with each of its texts written in another way."""
        return Answer(
            write(self.content),
            None if self.reasoning is None else write(self.reasoning),
            None
            if self.tool_calls is None
            else [_written(call, write) for call in self.tool_calls],
        )


@dataclass(frozen=True)
class Conversation:
    """The turns that a response answers, and the tools that it may call."""

    turns: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    def of(
        cls, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> Conversation:
        """The messages as a chat template takes them."""
        return cls([message.as_json() for message in messages], tools)

    @property
    def uses_tools(self) -> bool:
        """Whether tools are called, or may be."""
        return self.tools is not None or any(
            turn["role"] == "tool" or "tool_calls" in turn for turn in self.turns
        )

    def written(self, write: Callable[[str, str], str]) -> Conversation:
        """The same conversation with each text written in another way, given its role."""
        turns = [_written_turn(turn, write) for turn in self.turns]
        return Conversation(turns, _written(self.tools, lambda text: write("system", text)))


CALL: dict[str, Any] = {
    "id": "tspincall",  # Nine letters and digits: some templates refuse any other.
    "type": "function",
    "function": {"name": "tspintool", "arguments": {"tspinkey": "tspinvalue"}},
}
"""A marker: a call of `TOOL`."""

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "tspintool",
        "description": "Marks a place.",
        "parameters": {
            "type": "object",
            "properties": {"tspinkey": {"type": "string", "description": "Where."}},
            "required": ["tspinkey"],
        },
    },
}
"""A marker: a tool that may be called."""

RESULT = {
    "role": "tool",
    "content": "tspinresult",
    "tool_call_id": "tspincall",
    "name": "tspintool",
}
"""A marker: what the call gave."""

QUESTION = Conversation([{"role": "user", "content": "tspinquestion"}])
"""The simplest conversation, of markers."""

CALLING = Conversation([*QUESTION.turns, Answer("", tool_calls=[CALL]).turn(), RESULT], [TOOL])
"""One in which a tool has been called."""


def missing_from_prompt(conversation: Conversation, prompt: str) -> str | None:
    """What a rendering leaves out of a conversation; None where it has all.

    What earlier assistant turns thought may be left out: templates do so on purpose, as models
    were trained.
    """
    for number, turn in enumerate(conversation.turns, start=1):
        content = turn["content"]
        if turn["role"] == "assistant":
            content = END_OF_THOUGHT.split(content)[-1]  # Thoughts of earlier turns are dropped.
        if not _says(prompt, content):
            return named_turn(number, turn)
        for text in _call_texts(turn.get("tool_calls") or ()):
            if not _says(prompt, text):
                return f"the tool call of turn {number} (its {_short(text)})"
    for tool in conversation.tools or ():
        name = str(tool.get("function", tool).get("name", ""))
        if not _says(prompt, name):
            return f"the tool {name!r} in 'tools'"
    return None


def named_turn(number: int, turn: Mapping[str, Any]) -> str:
    """What messages call a turn, counted from 1."""
    return f"the {turn['role']} turn (turn {number}: {_short(turn['content'])})"


def missing_from_answer(answer: Answer, response: str) -> str | None:
    """What a rendered response leaves out of the answer; None where it has all."""
    for piece in _TAGS.split(answer.content):
        if not _says(response, piece):
            return f"text of the response ({_short(piece)})"
    if answer.reasoning is not None and not _says(response, answer.reasoning):
        return f"the reasoning of the response ({_short(answer.reasoning)})"
    for text in _call_texts(answer.tool_calls or ()):
        if not _says(response, text):
            return f"the tool call of the response (its {_short(text)})"
    return None


def _says(rendering: str, text: str) -> bool:
    """Whether a text stands in a rendering, as it is or within JSON."""
    bare = text.strip()
    if bare in rendering:
        return True
    quoted = (json.dumps(bare, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return any(spelling in rendering for spelling in quoted)


def _call_texts(calls: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for call in calls:
        function = call.get("function", call)
        yield str(function.get("name", ""))
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                yield arguments
                continue
        yield from _texts(arguments)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _written_turn(turn: Mapping[str, Any], write: Callable[[str, str], str]) -> dict[str, Any]:
    def write_own(text: str) -> str:
        return write(turn["role"], text)

    written = {key: _written(value, write_own) for key, value in turn.items()}
    return {**written, "role": turn["role"]}


def _written(value: Any, write: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return write(value)
    if isinstance(value, Mapping):
        return {key: _written(item, write) for key, item in value.items()}
    return [_written(item, write) for item in value] if isinstance(value, list) else value


def _short(text: str) -> str:
    bare = " ".join(text.split())
    return repr(bare if len(bare) <= 60 else f"{bare[:57]}...")
