"""One turn of a row, whoever wrote it: its role, its text, its thought and the tools it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tspin.data.formats.labels import not_learned
from tspin.data.formats.tools import read_calls
from tspin.data.formats.values import present_keys, shown, text_of
from tspin.data.rows.problems import Reason, RowError
from tspin.records.messages import Role, present

__all__ = ["THOUGHTS", "SpokenTurn", "read_turn", "thought_of"]

_CALLS = "function_call"
ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bing", "bard"), "assistant"),
    **dict.fromkeys(("ai", "bot", "chatbot", "claude", "llm"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(("function_response", "tool_response"), "tool"),
    **dict.fromkeys((_CALLS, "tool_call"), "assistant"),
}
"""By every name that tools give a role."""

_ROLE_KEYS = ("role", "from")
_TEXT_KEYS = ("content", "value", "parts", "text")
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""The names of a thought beside the answer."""

_TEXT_PARTS = (None, "text", "input_text", "output_text")
_THOUGHT_PARTS = ("thinking", "reasoning")


@dataclass(slots=True)
class SpokenTurn:
    """A turn as it was read; the fields of `records.Message`, checked here and hence no Message.

    Pydantic's models take five times as long to make, which an import of large files feels.
    """

    role: Role
    content: str
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    not_learned: str | None = field(default=None, compare=False)
    """The field that says that this turn is no example to learn from."""

    def as_json(self) -> dict[str, Any]:
        """The turn as it stands in a file."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning_content or self.tool_calls:
            thought = {"reasoning_content": self.reasoning_content, "tool_calls": self.tool_calls}
            fields |= present(thought)
        if self.role == "tool":
            fields |= present({"tool_call_id": self.tool_call_id, "name": self.name})
        return fields


class _Content(NamedTuple):
    text: str
    thought: str | None = None
    calls: list[dict[str, Any]] | None = None


def read_turn(turn: Any, path: str, columnar: bool, ignore: Callable[[str], None]) -> SpokenTurn:
    """The turn that an object of a row stands for.

    Args:
        turn: The object.
        path: Where it stands, such as `messages[2]`, for messages.
        columnar: Whether it comes from columns, where absent keys are null in every row.
        ignore: Told of each key that a record has no place for.

    Raises:
        RowError: it is no turn, or holds more than text.
    """
    if not isinstance(turn, dict):
        expected = "an object with 'role' and 'content'"
        raise RowError(Reason.WRONG_TYPE, path, f"is {shown(turn)}; expected {expected}")
    keys = present_keys(turn)
    role_key = next((key for key in _ROLE_KEYS if key in keys), None)
    if role_key is None:
        raise RowError(Reason.MISSING_FIELD, f"{path}.{_ROLE_KEYS['from' in turn]}", "is missing")
    text_key = next((key for key in _TEXT_KEYS if key in keys), None)
    named = text_of(turn[role_key], f"{path}.{role_key}").strip().lower()
    role = _role(named, f"{path}.{role_key}", turn[role_key])
    reader = _Reader(turn, path, columnar)
    calls = reader.calls(role)
    if text_key is None:
        if not calls:
            missing = "value" if role_key == "from" else "content"
            raise RowError(Reason.MISSING_FIELD, f"{path}.{missing}", "is missing")
        content = _Content("")
    elif named in (_CALLS, "tool_call"):
        content = _Content("", None, read_calls(turn[text_key], f"{path}.{text_key}", columnar))
    else:
        content = reader.content(turn[text_key], f"{path}.{text_key}")
    read = reader.turn(role, content, calls)
    for key in sorted(keys - {role_key, text_key, *reader.used}):
        ignore(key)
    return read


def _role(named: str, path: str, value: Any) -> Role:
    role = ROLES.get(named)
    if role is None:
        expected = f"one of {', '.join(ROLES)}"
        raise RowError(Reason.WRONG_ROLES, path, f"is {shown(value)}; expected {expected}")
    return role


class _Reader:
    def __init__(self, turn: dict[str, Any], path: str, columnar: bool) -> None:
        self._turn, self._path, self._columnar = turn, path, columnar
        self.used: set[str] = set()

    def calls(self, role: Role) -> list[dict[str, Any]] | None:
        for key in ("tool_calls", _CALLS):
            if self._turn.get(key):
                self.used.add(key)
                calls = read_calls(self._turn[key], f"{self._path}.{key}", self._columnar)
                if calls and role != "assistant":
                    message = f"belongs to turns of assistant, not of {role}"
                    raise RowError(Reason.WRONG_ROLES, f"{self._path}.{key}", message)
                return calls
            if key in self._turn:
                self.used.add(key)
        return None

    def content(self, value: Any, path: str) -> _Content:
        if isinstance(value, str):
            return _Content(value)
        if isinstance(value, dict) and ("type" in value or "text" in value):
            value = [value]
        if not isinstance(value, list):
            raise RowError(Reason.WRONG_TYPE, path, f"is {shown(value)}; expected text")
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[dict[str, Any]] = []
        for index, part in enumerate(value):
            at = f"{path}[{index}]"
            if isinstance(part, str):
                texts.append(part)
                continue
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(part, dict) or (kind is None and part.get("text") is None):
                raise RowError(Reason.NOT_TEXT, at, f"is {shown(part)}; a record holds text alone")
            if kind in _TEXT_PARTS:
                texts.append(text_of(part.get("text"), f"{at}.text"))
            elif kind in _THOUGHT_PARTS:
                thought = part.get("thinking") or part.get("reasoning") or part.get("text")
                thoughts.append(text_of(thought, f"{at}.{kind}"))
            elif kind == "tool_use":
                call = {"id": part.get("id"), "name": part.get("name")}
                call["arguments"] = part.get("input") or {}
                calls += read_calls([present(call)], at, self._columnar) or []
            else:
                message = f"is of the type {shown(kind)}; a record holds text alone"
                raise RowError(Reason.NOT_TEXT, at, message)
        return _Content("".join(texts), "\n".join(thoughts) or None, calls or None)

    def turn(self, role: Role, content: _Content, calls: Any) -> SpokenTurn:
        turn = SpokenTurn(role, content.text)
        if role == "assistant":
            turn.reasoning_content = self._thought(content.thought)
            turn.tool_calls = calls or content.calls
            turn.not_learned = not_learned(self._turn)
        elif content.thought or content.calls:
            message = f"holds a thought or a tool call in a turn of {role}"
            raise RowError(Reason.WRONG_ROLES, self._path, message)
        elif role == "tool":
            turn.tool_call_id, turn.name = self._optional("tool_call_id"), self._optional("name")
        return turn

    def _thought(self, beside: str | None) -> str | None:
        self.used.update(THOUGHTS)
        return thought_of(self._turn, THOUGHTS, self._path, beside)

    def _optional(self, key: str) -> str | None:
        value = self._turn.get(key)
        if value is None:
            return None
        self.used.add(key)
        return text_of(value, f"{self._path}.{key}") or None


def thought_of(
    fields: Mapping[str, Any], names: tuple[str, ...], path: str, other: str | None = None
) -> str | None:
    """The thought that stands under one of some names; None where there is none, or it is empty.

    Args:
        fields: Of a turn, or of a row.
        names: The fields that may hold it.
        path: Of the turn, for messages; '' for a row.
        other: A thought from elsewhere, with which it must agree.

    Raises:
        RowError: it is not text, or two fields hold two thoughts.
    """
    thought = other
    for name in names:
        value = fields.get(name)
        if value is None or value == "":
            continue
        at = f"{path}.{name}" if path else name
        if thought is not None and value != thought:
            message = "is another thought than the one beside it; keep one of the two"
            raise RowError(Reason.CONTRADICTION, at, message)
        thought = text_of(value, at)
    return thought
