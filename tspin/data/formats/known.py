"""The formats that other tools write, each with its keys and how a row becomes a conversation.

| name | keys | the annotation |
| --- | --- | --- |
| tspin | prompt or messages, response, id | `response` |
| spin | real (turns), generated | last turn of `real`, an assistant's |
| prompt-completion | prompt, completion (text or turns) | `completion` |
| preference | chosen, rejected; the prompt in one of many places | the end of `chosen` |
| openai-preference | input (messages in it), preferred_output | `preferred_output` |
| messages | messages | last turn, an assistant's |
| alpaca | instruction, input, output, system, history | `output` |
| dolly | instruction, context, response | `response` |
| sharegpt | conversations (from, value) | last turn, gpt's |
| question-answer | question, answer | `answer` |
| question-response | question, response, system_prompt | `response` |
| query-response | query, response | `response` |
| input-output | input, output | `output` |

All may have `id`, `tools` (or `functions`), `tool_calls` and `reasoning_content` (or `thinking`) of
the response, and marks such as `label` (see `labels`); all but tspin's own `system` or
`system_prompt`, the text of a system turn. Other fields have no place in a record: in tspin's own
format they are problems, in the others they are counted by name. `generated` and `rejected` are
other models' answers, which T-SPIN makes itself: counted too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tspin.data.formats.conversations import Conversation, conversation, require_order, single_turn
from tspin.data.formats.fields import MEDIA, SYSTEM, RowFields
from tspin.data.formats.instructions import instruction, pair
from tspin.data.formats.labels import MARKS
from tspin.data.formats.preferences import PROMPTS, openai_preference, preference
from tspin.data.formats.tools import TOOLS
from tspin.data.formats.turns import THOUGHTS, SpokenTurn
from tspin.data.rows.problems import Reason, RowError

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

    @cached_property
    def reads(self) -> frozenset[str]:
        """Every field that becomes part of the record."""
        needed = {name for names in self.needs for name in names}
        others = () if self.strict else (*SYSTEM, *THOUGHTS[:2], *TOOLS)
        own = ("id", "tools", "reasoning_content", "tool_calls")
        return frozenset((*needed, *self.takes, *own, *others))

    @cached_property
    def imports(self) -> frozenset[str]:
        """Every field that an import understands: those, other names of them, marks, indices."""
        return self.reads.union(THOUGHTS[:2], TOOLS, MARKS, MEDIA, _INDICES)


_INDICES = ("__index_level_0__", "Unnamed: 0")
"""Columns that pandas makes of an index."""


def _tspin(row: RowFields) -> Conversation:
    answer = SpokenTurn("assistant", row.text("response"))
    if row.value("messages") is None and not row.holds_turns("prompt"):
        return single_turn(row.text("prompt"), "")._replace(target=answer)
    if row.value("messages") is not None and row.value("prompt") is not None:
        message = "stands beside 'messages'; give one of the two"
        raise RowError(Reason.CONTRADICTION, "prompt", message)
    place = row.first("messages", "prompt") or "messages"
    messages = row.turns(place)
    require_order(messages, place, ("user", "tool"))
    return Conversation(messages, answer)


def _turns(*names: str) -> Callable[[RowFields], Conversation]:
    def read(row: RowFields) -> Conversation:
        name = row.first(*names) or names[0]
        return conversation(row.turns(name), name)

    return read


def _prompt_completion(row: RowFields) -> Conversation:
    if not row.holds_turns("prompt"):
        prompt = [SpokenTurn("user", row.text("prompt"))]
        if not row.holds_turns("completion"):
            return single_turn(prompt[0].content, row.text("completion"))
    else:
        prompt = row.turns("prompt")
    if row.holds_turns("completion"):
        answer = row.turns("completion")
    else:
        answer = [SpokenTurn("assistant", row.text("completion"))]
    return conversation([*prompt, *answer], "prompt + completion")


_CHAT = ("messages", "conversations", "conversation")
_SHARED = ("conversations", "conversation")
_ABOUT = ("input", "context", "history")

_ALL = (
    Format(
        "tspin",
        (("prompt", "messages"), ("response",)),
        _tspin,
        "prompt",
        "response",
        strict=True,
    ),
    Format("spin", (("real",),), _turns("real"), "real", "real"),
    Format(
        "prompt-completion",
        (("prompt",), ("completion",)),
        _prompt_completion,
        "prompt",
        "completion",
    ),
    Format("preference", (("chosen",),), preference, "prompt", "chosen", PROMPTS),
    Format(
        "openai-preference",
        (("input",), ("preferred_output",)),
        openai_preference,
        "input",
        "preferred_output",
    ),
    Format(
        "messages",
        (("messages",),),
        _turns("messages"),
        "messages",
        "messages",
        not_with=("response", "chosen"),
    ),
    Format(
        "alpaca",
        (("instruction",), ("output",)),
        instruction("output"),
        "instruction",
        "output",
        _ABOUT,
        (*_CHAT, "chosen"),
    ),
    Format(
        "dolly",
        (("instruction",), ("response",)),
        instruction("response"),
        "instruction",
        "response",
        _ABOUT,
        (*_CHAT, "chosen", "prompt", "output"),
    ),
    Format(
        "sharegpt",
        (_SHARED,),
        _turns(*_SHARED),
        "conversations",
        "conversations",
        not_with=("chosen",),
    ),
    Format(
        "question-answer",
        (("question",), ("answer",)),
        pair("question", "answer"),
        "question",
        "answer",
        not_with=("chosen",),
    ),
    Format(
        "question-response",
        (("question",), ("response",)),
        pair("question", "response"),
        "question",
        "response",
        not_with=(*_CHAT, "answer", "prompt", "instruction", "chosen"),
    ),
    Format(
        "query-response",
        (("query",), ("response",)),
        pair("query", "response"),
        "query",
        "response",
        not_with=(*_CHAT, "prompt", "instruction", "question", "chosen"),
    ),
    Format(
        "input-output",
        (("input",), ("output",)),
        pair("input", "output"),
        "input",
        "output",
        not_with=("instruction", "chosen"),
    ),
)

FORMATS = {form.name: form for form in _ALL}
"""Every format by its name."""


def format_list() -> str:
    """The formats and their needed keys, one a line, for messages."""
    return "\n".join(
        f"  {form.name}: {', '.join(' or '.join(names) for names in form.needs)}" for form in _ALL
    )
