"""Rows that their author marked as no example to learn from; no annotation comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tspin.data.formats.values import shown
from tspin.data.rows.problems import Reason, RowError

__all__ = ["MARKS", "labelled_bad", "not_learned"]

_LABELS = ("label", "kto_tag", "desirable")
"""Fields of a row that say whether its response is a good one (KTO)."""

_WEIGHTS = ("weight", "loss_weight")
_SWITCHES = ("train", "training", "trainable", "loss")
MARKS = (*_LABELS, *_WEIGHTS, *_SWITCHES)
"""Every field that may mark a row."""

_ANY = frozenset(MARKS)
_BAD = frozenset(("false", "no", "bad", "rejected", "undesirable", "0", "-1", "0.0"))
_GOOD = frozenset(("true", "yes", "good", "chosen", "desirable", "1", "+1", "1.0"))


def labelled_bad(row: Mapping[str, Any], *, lenient: bool) -> str | None:
    """The field of a row that says that its response is not to be learned; None where none does.

    Args:
        row: Its fields.
        lenient: Whether a label that says neither good nor bad means nothing, instead of being
            an error.

    Raises:
        RowError: a label is a number that says neither.
    """
    if _ANY.isdisjoint(row):
        return None
    for name in _LABELS:
        value = row.get(name)
        if value is not None and _verdict(name, value, lenient) is False:
            return name
    return not_learned(row)


def not_learned(fields: Mapping[str, Any]) -> str | None:
    """The field of a turn that takes it out of the loss: no weight, or a switch that is off."""
    if _ANY.isdisjoint(fields):
        return None
    for name in _WEIGHTS:
        weight = _number(fields.get(name))
        if weight is not None and weight <= 0:
            return name
    for name in _SWITCHES:
        value = fields.get(name)
        if value == 0 or (isinstance(value, str) and value.strip().lower() in _BAD):
            return name
    return None


def _verdict(name: str, value: Any, lenient: bool) -> bool | None:
    """Whether a label says good; None for a text that is a topic rather than a verdict."""
    word = str(value).strip().lower() if isinstance(value, str | int | float) else None
    if word in _BAD:
        return False
    if word in _GOOD:
        return True
    if isinstance(value, int | float) and not lenient:
        message = (
            f"is {shown(value)}; true and 1 mark a good response, false, 0 and -1 a bad one. "
            "--ignore-extra takes it for a column that says something else"
        )
        raise RowError(Reason.WRONG_TYPE, name, message)
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None
