"""Which format the rows of a source have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tspin.data.formats.known import FORMATS, Format, format_list
from tspin.data.formats.values import present_keys
from tspin.data.rows.problems import printable
from tspin.errors import InputError

__all__ = ["ROWS_LOOKED_AT", "detect_format", "named_format"]

ROWS_LOOKED_AT = 100
"""Detection looks at the keys of this many rows from the beginning."""

_KEYS_SHOWN = 20


def named_format(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format '{name}'; the formats and their keys:\n{format_list()}")
    return FORMATS[name]


def detect_format(source: str, rows: Iterable[Mapping[str, Any]]) -> Format:
    """The format of the first rows; a stray row of another format is outvoted, and reported later.

    Args:
        source: What is imported, for messages.
        rows: The first rows.

    Raises:
        InputError: no format fits the keys, one row fits several, or no format has a majority.
    """
    votes: Counter[str] = Counter()
    unknown: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        keys = present_keys(row)
        fitting = [form.name for form in FORMATS.values() if form.matches(keys)]
        if len(fitting) > 1:
            raise InputError(
                f"{source}: rows with the keys {_listed(keys)} fit several formats: "
                f"{', '.join(fitting)}; name the one you mean (--format)"
            )
        if fitting:
            votes[fitting[0]] += 1
        else:
            unknown[tuple(sorted(keys))] += 1
    if not votes:
        shapes = "; ".join(_listed(keys) for keys, _ in unknown.most_common(3))
        raise InputError(
            f"{source}: unknown format; keys found: {shapes}. Known formats and the keys they "
            f"need:\n{format_list()}"
        )
    (winner, count), *_ = votes.most_common(1)
    if 2 * count <= votes.total():
        counts = ", ".join(f"{name} ({rows} rows)" for name, rows in votes.most_common())
        raise InputError(
            f"{source}: the first rows have several formats: {counts}; import them one by one, "
            "or name the one you mean (--format)"
        )
    return FORMATS[winner]


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(printable(key) for key in sorted(keys)[:_KEYS_SHOWN]) or "(none)"
