"""From the turns of a row to a prompt and the annotated response: which turn is the target.

The rule, for every format: a conversation is an optional system turn, then user and assistant in
turn, perhaps after a greeting of the assistant's, with tool turns after a call of tools. Its last
turn must be the assistant's and is the annotation; all turns before it are the prompt. A
conversation that ends with a user turn has no annotation for that turn, and one whose order is
broken has none that is sure: both are problems. Nothing is cut off to make a row fit unless the
user asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tspin.data.formats.turns import SpokenTurn
from tspin.data.rows.problems import Reason, RowError
from tspin.records.messages import Role, order_problem

__all__ = ["Conversation", "conversation", "require_order", "single_turn", "with_system"]


class Conversation(NamedTuple):
    """What a row holds: the turns of the prompt and the response to them."""

    messages: list[SpokenTurn]
    target: SpokenTurn
    """The annotated response."""
    trailing: tuple[str, str] | None = None
    """Field and problem where user turns come after the target; these are not in here."""


def single_turn(prompt: str, response: str) -> Conversation:
    """One user turn and the response to it."""
    return Conversation([SpokenTurn("user", prompt)], SpokenTurn("assistant", response))


def conversation(turns: Sequence[SpokenTurn], field: str) -> Conversation:
    """Split turns by the rule above, user turns after the last assistant turn apart.

    Raises:
        RowError: the turns are not in order, or no assistant turn answers a user's.
    """
    end = len(turns)
    while end and turns[end - 1].role == "user":
        end -= 1
    whole = turns[:end]
    if order_problem(whole, ("assistant",)) is not None:
        require_order(turns, field, ("assistant",))
    problem = None if end == len(turns) else order_problem(turns, ("assistant",))
    return Conversation(list(whole[:-1]), whole[-1], None if problem is None else (field, problem))


def require_order(turns: Sequence[SpokenTurn], field: str, last: tuple[Role, ...]) -> None:
    """Raise unless turns are in order.

    Args:
        turns: Of one conversation, in order.
        field: Where they stand, for messages.
        last: The roles that may come last.
    """
    problem = order_problem(turns, last)
    if problem is not None:
        raise RowError(Reason.WRONG_ROLES, field, problem)


def with_system(system: str, conversation: Conversation) -> Conversation:
    """The conversation under a system text that stands in a field of its own ('' for none)."""
    first = conversation.messages[0]
    if not system or (first.role == "system" and first.content == system):
        return conversation
    if first.role == "system":
        message = "is given and the conversation has a system turn too; keep one of the two"
        raise RowError(Reason.CONTRADICTION, "system", message)
    return conversation._replace(messages=[SpokenTurn("system", system), *conversation.messages])
