"""One raw row read field by field, with errors that name the field and what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from tspin.data.rows.problems import Reason, RowError
from tspin.records.records import Message

__all__ = ["RowFields", "one_of"]

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


class RowFields:
    """The fields of one row. Null counts as absent: parquet has every column in every row."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self.ignored: list[str] = []
        """Keys inside turns that a record has no place for, such as `messages[].weight`."""

    def value(self, name: str) -> Any:
        """The value of a field, None if it is absent."""
        return self._row.get(name)

    def text(self, name: str) -> str:
        """A field that must be there and be text."""
        return _text(self._required(name), name)

    def optional_text(self, name: str) -> str:
        """A field of text, '' where it is absent."""
        value = self._row.get(name)
        return "" if value is None else _text(value, name)

    def turns(self, name: str) -> list[Message]:
        """A field that must be a list of turns: `{"role", "content"}` or `{"from", "value"}`."""
        value = self._required(name)
        if not isinstance(value, list):
            expected = 'a list of turns such as {"role": "user", "content": "..."}'
            raise RowError(Reason.WRONG_TYPE, name, f"is {_shown(value)}; expected {expected}")
        return [self._turn(turn, f"{name}[{index}]", name) for index, turn in enumerate(value)]

    def _required(self, name: str) -> Any:
        value = self._row.get(name)
        if value is None:
            raise RowError(Reason.MISSING_FIELD, name, "is missing")
        return value

    def _turn(self, turn: Any, path: str, name: str) -> Message:
        if not isinstance(turn, dict):
            expected = "an object with 'role' and 'content'"
            raise RowError(Reason.WRONG_TYPE, path, f"is {_shown(turn)}; expected {expected}")
        shape = ("from", "value") if "from" in turn and "role" not in turn else ("role", "content")
        for key in shape:
            if turn.get(key) is None:
                raise RowError(Reason.MISSING_FIELD, f"{path}.{key}", "is missing")
        self.ignored += [f"{name}[].{key}" for key in turn if key not in shape]
        role_key, content_key = shape
        role = _text(turn[role_key], f"{path}.{role_key}")
        known = _ROLES.get(role.lower())
        if known is None:
            expected = f"one of {', '.join(_ROLES)}"
            message = f"is {_shown(role)}; expected {expected}"
            raise RowError(Reason.WRONG_ROLES, f"{path}.{role_key}", message)
        content = _text(turn[content_key], f"{path}.{content_key}")
        # `model_construct` skips the check of what has just been checked: twice as fast.
        return Message.model_construct(role=known, content=content)


def one_of(names: tuple[str, ...]) -> str:
    """`'a', 'b' or 'c'`, for messages."""
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _text(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    raise RowError(Reason.WRONG_TYPE, path, f"is {_shown(value)}; expected text")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
