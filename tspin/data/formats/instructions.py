"""Rows of an instruction, perhaps something it is about, and an answer, each in its field."""

from __future__ import annotations

from collections.abc import Callable

from tspin.data.formats.conversations import Conversation, conversation, single_turn
from tspin.data.formats.fields import RowFields
from tspin.data.formats.turns import SpokenTurn
from tspin.data.rows.problems import Reason, RowError

__all__ = ["alpaca_prompt", "history", "instruction", "pair"]

_ABOUT = ("input", "context")


def pair(prompt: str, response: str) -> Callable[[RowFields], Conversation]:
    """A reader of rows that hold one question and its answer, in fields of these names."""
    return lambda row: single_turn(row.text(prompt), row.text(response))


def instruction(response: str) -> Callable[[RowFields], Conversation]:
    """A reader of rows in the manner of Alpaca, with the answer in a field of this name."""

    def read(row: RowFields) -> Conversation:
        asked = SpokenTurn("user", alpaca_prompt(row, "instruction"))
        answer = SpokenTurn("assistant", row.text(response))
        return conversation([*history(row), asked, answer], "history + instruction")

    return read


def alpaca_prompt(row: RowFields, name: str) -> str:
    """An instruction, and on the next line what it is about.

    Args:
        row: The row.
        name: The field of the instruction; what it is about stands in `input` or `context`.
    """
    about = [row.optional_text(field) for field in _ABOUT if field != name]
    return "\n".join(part for part in (row.text(name), *about) if part)


def history(row: RowFields) -> list[SpokenTurn]:
    """The exchanges before the instruction: pairs of texts in `history`.

    Raises:
        RowError: it holds something else.
    """
    turns: list[SpokenTurn] = []
    pairs = row.nested("history") or []
    for index, exchange in enumerate(pairs if isinstance(pairs, list) else [pairs]):
        if not isinstance(exchange, list) or [type(text) for text in exchange] != [str, str]:
            message = "is not a pair of texts: expected [instruction, answer]"
            raise RowError(Reason.WRONG_TYPE, f"history[{index}]", message)
        turns += [SpokenTurn("user", exchange[0]), SpokenTurn("assistant", exchange[1])]
    return turns
