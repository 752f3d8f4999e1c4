"""Preference rows: the chosen answer is the annotation, the prompt may stand inside it."""

from __future__ import annotations

from tspin.data.formats.conversations import Conversation, conversation, single_turn
from tspin.data.formats.fields import RowFields
from tspin.data.rows.problems import Reason, RowError
from tspin.records.records import Message

__all__ = ["preference"]


def preference(row: RowFields) -> Conversation:
    """Read `chosen` (text or turns) with `prompt` (text, turns or absent).

    Turns that hold the whole conversation need no `prompt`; where there is one, it must agree
    with them: as text it is one of the user turns, as turns it is their beginning.

    Raises:
        RowError: `chosen` is text without a `prompt`, or the two contradict each other.
    """
    if not isinstance(row.value("chosen"), list):
        chosen = row.text("chosen")
        if row.value("prompt") is None:
            message = "is missing, and 'chosen' is text; give the prompt, or 'chosen' as turns"
            raise RowError(Reason.MISSING_FIELD, "prompt", message)
        if isinstance(row.value("prompt"), list):
            answer = Message.model_construct(role="assistant", content=chosen)
            return conversation([*row.turns("prompt"), answer], "prompt")
        return single_turn(row.text("prompt"), chosen)
    turns = row.turns("chosen")
    if row.value("prompt") is None:
        return conversation(turns, "chosen")
    begins_with_answer = bool(turns) and turns[0].role == "assistant"
    if isinstance(row.value("prompt"), list):
        before = row.turns("prompt")
        return conversation(_joined(before, turns, begins_with_answer), "prompt + chosen")
    prompt = row.text("prompt")
    if begins_with_answer:
        user = Message.model_construct(role="user", content=prompt)
        return conversation([user, *turns], "prompt + chosen")
    asked = {turn.content.strip() for turn in turns if turn.role == "user"}
    if prompt.strip() not in asked:
        message = "is none of the user turns of 'chosen'; drop it, or give only the answer there"
        raise RowError(Reason.CONTRADICTION, "prompt", message)
    return conversation(turns, "chosen")


def _joined(
    prompt: list[Message], chosen: list[Message], begins_with_answer: bool
) -> list[Message]:
    if begins_with_answer:
        return [*prompt, *chosen]
    if chosen[: len(prompt)] != prompt:
        message = "begins neither with the turns of 'prompt' nor with an assistant turn"
        raise RowError(Reason.CONTRADICTION, "chosen", message)
    return chosen
