"""The formats that other tools write, each with its keys and how a row becomes a conversation.

| name | keys | the annotation |
| --- | --- | --- |
| tspin | prompt or messages, response, id | `response` |
| spin | real (turns), generated | last turn of `real`, an assistant's |
| prompt-completion | prompt, completion (both text or both turns) | `completion` |
| preference | chosen, prompt (may stand inside chosen), rejected | the end of `chosen` |
| messages | messages | last turn, an assistant's |
| alpaca | instruction, input, output, system, history | `output` |
| sharegpt | conversations (from, value) | last turn, gpt's |
| question-answer | question, answer | `answer` |
| input-output | input, output | `output` |

All but tspin's own may have `system` (text of a system turn) and `id`. Other fields have no place
in a record: in tspin's own format they are problems, in the others they are counted by name.
`generated` and `rejected` are other models' answers, which T-SPIN makes itself: counted too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tspin.data.formats.conversations import Conversation, conversation, require_order, single_turn
from tspin.data.formats.fields import RowFields
from tspin.data.formats.preferences import preference
from tspin.data.rows.problems import Reason, RowError
from tspin.records.records import Message

__all__ = ["FORMATS", "Format", "format_list"]


@dataclass(frozen=True)
class Format:
    """One shape of rows."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """For each needed field the names it may have."""
    convert: Callable[[RowFields], Conversation]
    prompt_field: str
    """Where the prompt stands, for messages."""
    response_field: str
    """Where the annotated response stands, for messages."""
    takes: tuple[str, ...] = ()
    """Optional fields that become part of the record."""
    not_with: tuple[str, ...] = ()
    """Fields that mark a more specific format."""
    strict: bool = False
    """Whether fields that are not read are problems."""

    def matches(self, keys: frozenset[str]) -> bool:
        """Whether a row with these keys can have this format."""
        return keys.isdisjoint(self.not_with) and not self.missing(keys)

    def missing(self, keys: frozenset[str]) -> list[tuple[str, ...]]:
        """The needed fields that are not among the keys."""
        return [names for names in self.needs if keys.isdisjoint(names)]

    @property
    def reads(self) -> frozenset[str]:
        """Every field that becomes part of the record."""
        needed = {name for names in self.needs for name in names}
        return frozenset(needed | set(self.takes) | {"id"})


def _tspin(row: RowFields) -> Conversation:
    if row.value("messages") is None:
        return single_turn(row.text("prompt"), row.text("response"))
    if row.value("prompt") is not None:
        message = "stands beside 'messages'; give one of the two"
        raise RowError(Reason.CONTRADICTION, "prompt", message)
    messages = row.turns("messages")
    require_order(messages, "messages", last="user")
    return Conversation(messages, row.text("response"))


def _spin(row: RowFields) -> Conversation:
    return conversation(row.turns("real"), "real")


def _prompt_completion(row: RowFields) -> Conversation:
    if isinstance(row.value("prompt"), list):
        turns = [*row.turns("prompt"), *row.turns("completion")]
        return conversation(turns, "prompt + completion")
    return single_turn(row.text("prompt"), row.text("completion"))


def _messages(row: RowFields) -> Conversation:
    return conversation(row.turns("messages"), "messages")


def _alpaca(row: RowFields) -> Conversation:
    parts = (row.text("instruction"), row.optional_text("input"))
    conversation = single_turn("\n".join(part for part in parts if part), row.text("output"))
    return Conversation([*_history(row), *conversation.messages], conversation.response)


def _history(row: RowFields) -> list[Message]:
    turns: list[Message] = []
    pairs = row.value("history") or []
    for index, pair in enumerate(pairs if isinstance(pairs, list) else [pairs]):
        two_texts = isinstance(pair, list) and [type(text) for text in pair] == [str, str]
        if not two_texts:
            message = "is not a pair of texts: expected [instruction, answer]"
            raise RowError(Reason.WRONG_TYPE, f"history[{index}]", message)
        turns.append(Message.model_construct(role="user", content=pair[0]))
        turns.append(Message.model_construct(role="assistant", content=pair[1]))
    return turns


def _sharegpt(row: RowFields) -> Conversation:
    return conversation(row.turns("conversations"), "conversations")


def _question_answer(row: RowFields) -> Conversation:
    return single_turn(row.text("question"), row.text("answer"))


def _input_output(row: RowFields) -> Conversation:
    return single_turn(row.text("input"), row.text("output"))


_SYSTEM = ("system",)

_ALL = (
    Format(
        "tspin",
        (("prompt", "messages"), ("response",)),
        _tspin,
        "prompt",
        "response",
        strict=True,
    ),
    Format("spin", (("real",),), _spin, "real", "real", _SYSTEM),
    Format(
        "prompt-completion",
        (("prompt",), ("completion",)),
        _prompt_completion,
        "prompt",
        "completion",
        _SYSTEM,
    ),
    Format("preference", (("chosen",),), preference, "prompt", "chosen", ("prompt", "system")),
    Format("messages", (("messages",),), _messages, "messages", "messages", _SYSTEM, ("response",)),
    Format(
        "alpaca",
        (("instruction",), ("output",)),
        _alpaca,
        "instruction",
        "output",
        ("input", "system", "history"),
    ),
    Format("sharegpt", (("conversations",),), _sharegpt, "conversations", "conversations", _SYSTEM),
    Format(
        "question-answer",
        (("question",), ("answer",)),
        _question_answer,
        "question",
        "answer",
        _SYSTEM,
    ),
    Format(
        "input-output",
        (("input",), ("output",)),
        _input_output,
        "input",
        "output",
        _SYSTEM,
        ("instruction",),
    ),
)

FORMATS = {form.name: form for form in _ALL}
"""Every format by its name."""


def format_list() -> str:
    """The formats and their needed keys, one a line, for messages."""
    return "\n".join(
        f"  {form.name}: {', '.join(' or '.join(names) for names in form.needs)}" for form in _ALL
    )
