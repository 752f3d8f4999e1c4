"""Tools and the calls of them, from the shapes that are in use to OpenAI's."""

from __future__ import annotations

from typing import Any

from tspin.data.formats.values import from_text, plain, shown
from tspin.data.rows.problems import Reason, RowError

__all__ = ["TOOLS", "read_calls", "read_tools"]

TOOLS = ("tools", "functions")
"""Fields of a row that list the tools that may be called."""

_CALL = 'a call such as {"type": "function", "function": {"name": ..., "arguments": ...}}'
_TOOL = 'a tool such as {"type": "function", "function": {"name": ..., "parameters": ...}}'


def read_calls(value: Any, path: str, columnar: bool) -> list[dict[str, Any]] | None:
    """The tools that a turn calls, in OpenAI's shape; None where there are none.

    Args:
        value: A list of calls or one call, bare or under `function`, or the same as JSON text.
        path: Where it stands, for messages.
        columnar: See `values.plain`.

    Raises:
        RowError: it is not that.
    """
    return [_call(item, at) for at, item in _objects(value, path, columnar, _CALL)] or None


def read_tools(value: Any, path: str, columnar: bool) -> list[dict[str, Any]] | None:
    """The tools that may be called, in OpenAI's shape; None where there are none.

    Args:
        value: A list of tools or one tool, bare or under `function`, or the same as JSON text.
        path: Where it stands, for messages.
        columnar: See `values.plain`.

    Raises:
        RowError: it is not that.
    """
    return [_tool(item, at) for at, item in _objects(value, path, columnar, _TOOL)] or None


def _objects(
    value: Any, path: str, columnar: bool, expected: str
) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(value, str):
        value = from_text(value, path) if value.strip() else None
        columnar = False
    if value is None or value in ([], {}):
        return []
    listed = isinstance(value, list)
    return [
        (at, _object(item, at, columnar, expected))
        for index, item in enumerate(value if listed else [value])
        for at in [f"{path}[{index}]" if listed else path]
    ]


def _object(item: Any, path: str, columnar: bool, expected: str) -> dict[str, Any]:
    # Columns hold no objects of several shapes: there are lists of JSON texts instead.
    decoded = from_text(item, path) if isinstance(item, str) else item
    if not isinstance(decoded, dict):
        raise RowError(Reason.WRONG_TYPE, path, f"is {shown(decoded)}; expected {expected}")
    read: dict[str, Any] = plain(decoded, path, columnar=columnar and decoded is item)
    return read


def _call(call: dict[str, Any], path: str) -> dict[str, Any]:
    function = call.get("function")
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return call
    if not isinstance(call.get("name"), str):
        raise RowError(Reason.WRONG_TYPE, path, f"is {shown(call)}; expected {_CALL}")
    arguments: Any = next((call[key] for key in ("arguments", "parameters") if key in call), {})
    known = {"id": call["id"]} if "id" in call else {}
    return {
        **known,
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }


def _tool(tool: dict[str, Any], path: str) -> dict[str, Any]:
    if isinstance(tool.get("function"), dict) or ("type" in tool and "name" not in tool):
        return tool
    if not isinstance(tool.get("name"), str):
        raise RowError(Reason.WRONG_TYPE, path, f"is {shown(tool)}; expected {_TOOL}")
    bare = {key: value for key, value in tool.items() if (key, value) != ("type", "function")}
    return {"type": "function", "function": bare}
