"""The study's numbers as one parquet file a protocol, one number a row; tables come from it alone.

Long rows keep one schema for every kind of run, whatever was measured on it, and any reader of
parquet can pivot them. In memory a run is a nested dictionary, as `study.measurements` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tspin.errors import InputError
from tspin.files import atomic_file

__all__ = [
    "RESULTS",
    "ConfirmedRow",
    "Results",
    "RunRow",
    "SearchRow",
    "SettingRow",
    "SignRow",
    "TemperedRow",
]

RESULTS = Path(__file__).parent / "results"
"""What the committed tables and figures are made from."""

RunRow = dict[str, Any]
"""A final run: learning rate, cost, what was measured on test, and iteration by iteration."""
SettingRow = dict[str, Any]
"""A run of T-SPIN with another alpha or beta."""
SearchRow = dict[str, Any]
"""A run of the search, or one that chose a learning rate, at its best and its last iteration."""
ConfirmedRow = dict[str, Any]
"""A regime of the search or a control beside it, run once more and measured on test."""
TemperedRow = dict[str, Any]
"""A last policy, or a base, at temperature 1 and at the fitted one."""
SignRow = dict[str, Any]
"""An iteration of any run: what the guards look at, and whether the policy got worse."""

_IDENTITY = ("skill", "base", "part", "setting", "arm", "seed", "iteration")
"""Columns that together with the table name a run, or an iteration of it; else null."""
_NUMBERS = ("seed", "iteration")
_FLAGS = ("control", "worse")
"""Metrics that are true or false: 1 and 0 in the file."""
_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        *((name, pa.int32() if name in _NUMBERS else pa.string()) for name in _IDENTITY),
        # Path of the dictionary that holds the metric: test/best, iterations/0, cost/seconds.
        ("group", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Results:
    """All that a protocol measured, a table a field."""

    protocol: Mapping[str, Any]
    """Its name and its numbers, as they were when it ran."""
    runs: Sequence[RunRow] = ()
    settings: Sequence[SettingRow] = ()
    search: Sequence[SearchRow] = ()
    confirmed: Sequence[ConfirmedRow] = ()
    tempered: Sequence[TemperedRow] = ()
    signs: Sequence[SignRow] = ()

    def write(self, path: Path) -> None:
        """Write the file; equal results give equal bytes with the same version of pyarrow."""
        numbers = [
            (table, *(row.get(name) for name in _IDENTITY), group or None, metric, float(value))
            for table in _tables()
            for row in getattr(self, table)
            for group, metric, value in _leaves(row)
        ]
        columns = zip(*numbers, strict=True) if numbers else [()] * len(_SCHEMA)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)
        ]
        schema = _SCHEMA.with_metadata({"protocol": json.dumps(dict(self.protocol))})
        with atomic_file(path) as file:
            pq.write_table(
                pa.Table.from_arrays(arrays, schema=schema),
                file,
                compression="zstd",
                compression_level=22,
                # Values seldom repeat: their bytes, sorted by significance, compress better.
                use_dictionary=[name for name in _SCHEMA.names if name != "value"],
                column_encoding={"value": "BYTE_STREAM_SPLIT"},
            )

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `write` wrote, in the same order.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        try:
            table = pq.read_table(path, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: results of the study cannot be read: {error}") from None
        if not table.schema.equals(_SCHEMA) or b"protocol" not in (table.schema.metadata or {}):
            raise InputError(f"{path}: not results of the study: its columns are other ones")
        rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {name: {} for name in _tables()}
        for number in table.to_pylist():
            identity = tuple(number[name] for name in _IDENTITY)
            row = rows[number["table"]].setdefault(identity, _named(identity))
            _insert(row, number["group"], number["metric"], number["value"])
        return cls(
            json.loads(table.schema.metadata[b"protocol"]),
            **{name: [_listed(row) for row in those.values()] for name, those in rows.items()},
        )


def _tables() -> list[str]:
    return [field.name for field in fields(Results) if field.name != "protocol"]


def _leaves(values: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str, float]]:
    """Every number below a dictionary, with its path; what names the run is no number of it."""
    for name, value in values.items():
        within = f"{group}/{name}".removeprefix("/")
        if isinstance(value, Mapping):
            yield from _leaves(value, within)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for position, element in enumerate(value):
                yield from _leaves(element, f"{within}/{position}")
        elif value is not None and (group or name not in _IDENTITY):
            yield group, name, value


def _named(identity: tuple[Any, ...]) -> dict[str, Any]:
    named = zip(_IDENTITY, identity, strict=True)
    return {name: value for name, value in named if value is not None}


def _insert(row: dict[str, Any], group: str | None, metric: str, value: float) -> None:
    for name in group.split("/") if group else ():
        row = row.setdefault(name, {})
    row[metric] = bool(value) if metric in _FLAGS else value


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    """The iterations of a final run as a list again."""
    if "iterations" in row:
        row["iterations"] = list(row["iterations"].values())
    return row
