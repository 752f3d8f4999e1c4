"""From the turns of a row to a prompt and the annotated response: which turn is the target.

The rule, for every format: a conversation is an optional system turn, then user and assistant in
turn. Its last turn must be the assistant's and is the annotation; all turns before it are the
prompt. A conversation that ends with a user turn has no annotation and is a problem, as is one
whose order is broken: nothing is cut off to make a row fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tspin.data.rows.problems import Reason, RowError
from tspin.records.records import Message

__all__ = ["Conversation", "conversation", "single_turn", "with_system"]


class Conversation(NamedTuple):
    """What a row holds: the turns of the prompt and the response to them."""

    messages: list[Message]
    response: str


def single_turn(prompt: str, response: str) -> Conversation:
    """One user turn and the response to it."""
    return Conversation([_user(prompt)], response)


def conversation(turns: Sequence[Message], field: str) -> Conversation:
    """Split turns by the rule above.

    Raises:
        RowError: the turns are not in order, or do not end with the assistant's.
    """
    require_order(turns, field, last="assistant")
    return Conversation(list(turns[:-1]), turns[-1].content)


def require_order(turns: Sequence[Message], field: str, *, last: str) -> None:
    """Raise unless turns are an optional system turn, then user and assistant up to `last`.

    Args:
        turns: Of one conversation, in order.
        field: Where they stand, for messages.
        last: The role that must come last.
    """
    roles: list[str] = [turn.role for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(spoken))]
    least = 2 if last == "assistant" else 1
    if spoken == expected and len(spoken) >= least and spoken[-1] == last:
        return
    shown = ", ".join(roles[:8]) + (", ..." if len(roles) > 8 else "")
    raise RowError(
        Reason.WRONG_ROLES,
        field,
        f"has the roles [{shown}]; right would be an optional system turn, then user and "
        f"assistant in turn, ending with {last}",
    )


def with_system(system: str, conversation: Conversation) -> Conversation:
    """The conversation under a system text that stands in a field of its own ('' for none)."""
    if not system:
        return conversation
    if conversation.messages[0].role == "system":
        message = "is given and the conversation has a system turn too; keep one of the two"
        raise RowError(Reason.CONTRADICTION, "system", message)
    turn = Message.model_construct(role="system", content=system)
    return Conversation([turn, *conversation.messages], conversation.response)


def _user(content: str) -> Message:
    return Message.model_construct(role="user", content=content)
