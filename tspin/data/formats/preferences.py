"""Preference rows: the chosen answer is the annotation, the prompt may stand in many places."""

from __future__ import annotations

import re
import unicodedata

from tspin.data.formats.conversations import Conversation, conversation, single_turn
from tspin.data.formats.fields import RowFields, one_of
from tspin.data.formats.instructions import alpaca_prompt, history
from tspin.data.formats.turns import SpokenTurn
from tspin.data.rows.problems import Reason, RowError

__all__ = ["PROMPTS", "openai_preference", "preference"]

_TURNS = ("messages", "conversations", "conversation")
_TEXTS = ("instruction", "question", "query", "input")
PROMPTS = ("prompt", *_TURNS, *_TEXTS, "context", "history")
"""The fields that a prompt may stand in."""

_SPEAKERS = re.compile(r"\n\n(Human|Assistant): ?")


def preference(row: RowFields) -> Conversation:
    """Read `chosen` (text, turns or one turn) with the prompt in a field of its own, or inside.

    Turns that hold the whole conversation need no prompt; where there is one, it must agree with
    them: as text it is one of the user turns, as turns it is their beginning. Texts without a
    prompt hold it as what `chosen` and `rejected` begin with.

    Raises:
        RowError: there is no prompt, or two of them contradict each other.
    """
    place = row.first("prompt", *_TURNS, *_TEXTS)
    if not row.holds_turns("chosen"):
        chosen = row.text("chosen")
        if place is None:
            return _common_beginning(chosen, row)
        return _under(row, place, [SpokenTurn("assistant", chosen)])
    turns = row.turns("chosen")
    if place is None:
        return conversation(turns, "chosen")
    answers = bool(turns) and turns[0].role == "assistant"
    if row.holds_turns(place):
        before = row.turns(place)
        if turns[: len(before)] != before and not answers:
            message = f"begins neither with the turns of '{place}' nor with an assistant turn"
            raise RowError(Reason.CONTRADICTION, "chosen", message)
        whole = turns if turns[: len(before)] == before else [*before, *turns]
        return conversation(whole, f"{place} + chosen")
    prompt = _prompt_text(row, place)
    if prompt.strip() in {turn.content.strip() for turn in turns if turn.role == "user"}:
        return conversation(turns, "chosen")
    if answers:
        return _under(row, place, turns)
    message = "is none of the user turns of 'chosen'; drop it, or give only the answer there"
    raise RowError(Reason.CONTRADICTION, place, message)


def _prompt_text(row: RowFields, place: str) -> str:
    return row.text(place) if place == "prompt" else alpaca_prompt(row, place)


def _under(row: RowFields, place: str, answer: list[SpokenTurn]) -> Conversation:
    """The conversation of a prompt and the chosen answer to it."""
    if row.holds_turns(place):
        return conversation([*row.turns(place), *answer], f"{place} + chosen")
    turns = [*history(row), SpokenTurn("user", _prompt_text(row, place)), *answer]
    return conversation(turns, f"{place} + chosen")


def _common_beginning(chosen: str, row: RowFields) -> Conversation:
    """The prompt as what two texts have in common, up to the last whole word."""
    if row.value("rejected") is None:
        message = "is missing, and 'chosen' is text; give the prompt, or 'chosen' as turns"
        raise RowError(Reason.MISSING_FIELD, "prompt", message)
    if _SPEAKERS.match(chosen):
        return conversation(_transcript(chosen), "chosen")
    rejected = row.text("rejected")
    alike = zip(chosen, rejected, strict=False)
    shorter = min(len(chosen), len(rejected))
    end = next((at for at, (one, other) in enumerate(alike) if one != other), shorter)
    while end and (_within_word(chosen, end) or _within_word(rejected, end)):
        end -= 1
    while end and chosen[end - 1].isspace():
        end -= 1
    if not end or end == len(chosen):
        message = (
            "is missing, and 'chosen' and 'rejected' are texts that do not begin alike and then "
            "differ; give the prompt in a field of its own"
        )
        raise RowError(Reason.MISSING_FIELD, "prompt", message)
    return single_turn(chosen[:end], chosen[end:])


def _within_word(text: str, at: int) -> bool:
    """Whether a cut parts a word, of a script that has spaces between words."""
    return at < len(text) and all(
        character.isalnum() and unicodedata.east_asian_width(character) not in ("W", "F")
        for character in text[at - 1 : at + 1]
    )


def _transcript(text: str) -> list[SpokenTurn]:
    """The turns of a dialogue in one text, as Anthropic's HH-RLHF has it."""
    parts = _SPEAKERS.split(text)
    return [
        SpokenTurn("user" if speaker == "Human" else "assistant", said)
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def openai_preference(row: RowFields) -> Conversation:
    """Read OpenAI's `input` (`messages` in it) and `preferred_output`.

    Raises:
        RowError: `input` holds no turns.
    """
    value = row.nested("input")
    if not isinstance(value, dict) or value.get("messages") is None:
        message = f"holds no {one_of(('messages',))}, the turns of the prompt"
        raise RowError(Reason.MISSING_FIELD, "input", message)
    prompt = RowFields({"input.messages": value["messages"]}).turns("input.messages")
    answer = row.turns("preferred_output")
    return conversation([*prompt, *answer], "input.messages + preferred_output")
