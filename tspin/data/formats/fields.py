"""One raw row read field by field, with errors that name the field and what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tspin.data.formats.tools import TOOLS, read_calls, read_tools
from tspin.data.formats.turns import THOUGHTS, SpokenTurn, read_turn, thought_of
from tspin.data.formats.values import from_text, shown, text_of
from tspin.data.rows.problems import Reason, RowError

__all__ = ["MEDIA", "SYSTEM", "RowFields", "one_of"]

_PLAIN: Any = {"system": "system", "user": "user", "assistant": "assistant"}
SYSTEM = ("system", "system_prompt")
"""Fields that hold the text of a system turn."""

MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Fields that hold what is no text."""


class RowFields:
    """The fields of one row. Null counts as absent: parquet has every column in every row.

    Args:
        row: The fields.
        columnar: Whether they come from columns; see `values.plain`.
        texts: Whether they come from a file that holds texts alone. There a field that may be text
            or turns is turns if it reads like them; elsewhere a text is a text.
    """

    def __init__(
        self, row: Mapping[str, Any], *, columnar: bool = False, texts: bool = False
    ) -> None:
        self._row = row
        self._columnar = columnar
        self._texts = texts
        self.ignored: list[str] = []
        """Keys inside turns that a record has no place for, such as `messages[].weight`."""

    def value(self, name: str) -> Any:
        """The value of a field, None if it is absent."""
        return self._row.get(name)

    def first(self, *names: str) -> str | None:
        """The first of some fields that is there."""
        return next((name for name in names if self._row.get(name) is not None), None)

    def text(self, name: str) -> str:
        """A field that must be there and be text."""
        return text_of(self._row.get(name), name)

    def optional_text(self, name: str) -> str:
        """A field of text, '' where it is absent."""
        value = self._row.get(name)
        return "" if value is None else text_of(value, name)

    def system(self) -> str:
        """The text of a system turn that stands in a field of its own, '' where there is none.

        Raises:
            RowError: it is not text, or two fields hold two texts.
        """
        texts = [text for name in SYSTEM if (text := self.optional_text(name))]
        if len(set(texts)) > 1:
            message = f"is another text than '{SYSTEM[0]}'; keep one of the two"
            raise RowError(Reason.CONTRADICTION, SYSTEM[1], message)
        return texts[0] if texts else ""

    def thought(self, other: str | None) -> str | None:
        """The thought before the response that stands in a field of the row.

        A column `reasoning` may say how a model is to think and is none: `turns.THOUGHTS` has it
        for turns alone.
        """
        return thought_of(self._row, THOUGHTS[:2], "", other)

    def refuse_media(self) -> None:
        """Raise if the row shows or plays something."""
        for name in MEDIA:
            if (value := self._row.get(name)) is not None and value not in ("", [], {}):
                message = f"is {shown(value)}; a record holds text alone"
                raise RowError(Reason.NOT_TEXT, name, message)

    def calls(self) -> list[dict[str, Any]] | None:
        """The tools that the response calls, where they stand in a field of the row."""
        return read_calls(self._row.get("tool_calls"), "tool_calls", self._columnar)

    def tools(self) -> list[dict[str, Any]] | None:
        """The tools that may be called."""
        name = self.first(*TOOLS)
        if name is not None:
            return read_tools(self._row[name], name, self._columnar)
        holder = self._row.get("input")  # Of OpenAI's preference rows; otherwise a text.
        value = holder.get("tools") if isinstance(holder, dict) else None
        return read_tools(value, "input.tools", self._columnar)

    def nested(self, name: str) -> Any:
        """A field that may hold an object or a list, decoded where a table holds it as text."""
        value = self._row.get(name)
        if isinstance(value, str) and self._texts and value[:1] in ("[", "{"):
            return from_text(value, name)
        return value

    def holds_turns(self, name: str) -> bool:
        """Whether a field holds turns, or one, rather than a text."""
        value = self._row.get(name)
        if isinstance(value, str) and self._texts and value[:1] in ("[", "{"):
            return _are_turns(value, name)
        return isinstance(value, list | dict)

    def turns(self, name: str) -> list[SpokenTurn]:
        """A field that must be a list of turns, such as `{"role", "content"}`, or one of them."""
        value = self._row.get(name)
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            value = from_text(value, name)
        if isinstance(value, dict):
            value = _transposed(value) if isinstance(_any(value), list) else [value]
        if value is None:
            raise RowError(Reason.MISSING_FIELD, name, "is missing")
        if not isinstance(value, list):
            expected = 'a list of turns such as {"role": "user", "content": "..."}'
            raise RowError(Reason.WRONG_TYPE, name, f"is {shown(value)}; expected {expected}")
        return [self._turn(turn, name, index) for index, turn in enumerate(value)]

    def _turn(self, turn: Any, name: str, index: int) -> SpokenTurn:
        if type(turn) is dict and len(turn) == 2:  # What most rows hold, without a detour.
            role, content = turn.get("role"), turn.get("content")
            if type(role) is str and type(content) is str and role in _PLAIN:
                return SpokenTurn(_PLAIN[role], content)
        path = f"{name}[{index}]"
        return read_turn(
            turn, path, self._columnar, lambda key: self.ignored.append(f"{name}[].{key}")
        )


def one_of(names: Sequence[str]) -> str:
    """`'a', 'b' or 'c'`, for messages."""
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _are_turns(value: str, name: str) -> bool:
    try:
        turns = from_text(value, name)
    except RowError:
        return False
    return isinstance(turns, list | dict) and all(
        isinstance(turn, dict) and ("role" in turn or "from" in turn)
        for turn in (turns if isinstance(turns, list) else [turns])
    )


def _any(value: Mapping[str, Any]) -> Any:
    return value.get("role", value.get("from"))


def _transposed(value: Mapping[str, Any]) -> Any:
    """Turns that stand in columns, as older versions of `datasets` write a list of objects."""
    lengths = {len(column) for column in value.values() if isinstance(column, list)}
    if len(lengths) != 1 or not all(isinstance(column, list) for column in value.values()):
        return dict(value)
    return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
