"""Single values of a row: what they are, how messages show them, what JSON text in them holds."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from typing import Any

from tspin.data.rows.problems import Reason, RowError

__all__ = ["from_text", "plain", "present_keys", "shown", "text_of"]

_MAX_DEPTH = 60
_WHOLE = 2**63


def present_keys(row: Mapping[str, Any]) -> frozenset[str]:
    """The keys of a row whose values are not null."""
    return frozenset([key for key, value in row.items() if value is not None])


def text_of(value: Any, path: str) -> str:
    """A value that must be text.

    Raises:
        RowError: it is something else.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RowError(Reason.MISSING_FIELD, path, "is missing")
    raise RowError(Reason.WRONG_TYPE, path, f"is {shown(value)}; expected text")


def shown(value: Any) -> str:
    """A value as messages show it, cut to 60 characters."""
    try:
        text = json.dumps(value, default=repr)
    except (ValueError, TypeError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def from_text(value: str, path: str) -> Any:
    """What a list or an object written as text stands for.

    JSON, or Python's literals: pandas writes those into the cells of a CSV file.

    Raises:
        RowError: it is neither.
    """
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        message = f"is {shown(value)}, which is neither JSON nor a Python literal"
        raise RowError(Reason.BROKEN_JSON, path, message) from None


def plain(value: Any, path: str, *, columnar: bool, depth: int = 0) -> Any:
    """A value of tools or calls, as it can stand in a record.

    Args:
        value: Of any type.
        path: Where it stands, for messages.
        columnar: Whether it comes from columns. There each object has the keys of all objects of
            the file, null where its own row had none: these are left out.
        depth: How deeply it is nested.

    Raises:
        RowError: JSON has no such value.
    """
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {
            text_of(key, path): plain(item, f"{path}.{key}", columnar=columnar, depth=depth + 1)
            for key, item in value.items()
            if not (columnar and item is None)
        }
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        return [plain(item, path, columnar=columnar, depth=depth + 1) for item in value]
    if isinstance(value, str):
        _refuse_surrogate(value, path)
        return value
    finite = isinstance(value, float) and math.isfinite(value)
    whole = isinstance(value, int) and -_WHOLE <= value < _WHOLE
    if value is None or finite or whole:
        return value
    raise RowError(Reason.WRONG_TYPE, path, f"is {shown(value)}; expected a value that JSON has")


def _refuse_surrogate(text: str, path: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        message = "holds half of a surrogate pair, a cut emoji perhaps; remove it"
        raise RowError(Reason.LONE_SURROGATE, path, message) from None
