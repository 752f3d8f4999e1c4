"""Rows of every format, each damaged in some way: kept or counted, never an error of Python's."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.test_data_formats import WORKED
from tspin.data import Choices, import_records, validate_records
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, read_records

ROWS = 2000
ODD: list[Any] = [
    *(None, "", " ", 0, -1, 1.5, 2**70, True, False, [], {}, [[]], [None], ["a"], {"role": None}),
    *("\ud800", "\x00", "{", '[{"role":', "[1]", "\u2028", "x" * 3000),
    *([{"type": "image"}], [{"type": "text", "text": None}], {"0": "a"}, [{"from": "gpt"}]),
    *({"function": {"name": 3}}, [{"name": "w", "arguments": {"a": [[[[[1]]]]]}}]),
]
KEYS = ["messages", "conversations", "prompt", "chosen", "rejected", "response", "completion"]
KEYS += ["id", "label", "kto_tag", "weight", "train", "tools", "functions", "thinking", "images"]
KEYS += ["role", "from", "content", "value", "tool_calls", "tool_call_id", "name", "system"]


def damaged(value: Any, chance: random.Random) -> Any:
    """The value with one part of it removed, replaced, renamed or repeated."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        others = {name: item for name, item in value.items() if name != key}
        kind = chance.randrange(5)
        if kind == 0:
            return others
        if kind == 1:
            return {**others, chance.choice(KEYS): value[key]}
        if kind == 2:
            return {**value, chance.choice(KEYS): chance.choice(ODD)}
        return {**value, key: damaged(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        kind = chance.randrange(4)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return [*value, value[at]]
        return [*value[:at], damaged(value[at], chance), *value[at + 1 :]]
    return chance.choice(ODD)


def rows(name: str, chance: random.Random, count: int) -> Iterator[dict[str, Any]]:
    worked = [row for form, row, *_ in WORKED if form == name]
    for _ in range(count):
        row = chance.choice(worked)
        changed = damaged(row, chance)
        yield changed if isinstance(changed, dict) else {**row, "id": changed}


def text(row: Any) -> str:
    return json.dumps(row)


def as_table(made: list[dict[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in made for name in row if name.strip()))
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(names)
    for row in made:
        values = (row.get(name, "") for name in names)
        writer.writerow(item if isinstance(item, str) else text(item) for item in values)
    return file.getvalue().encode("utf-8", "surrogatepass")


def as_columns(made: list[dict[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in made for name in row))
    return text({n: {str(i): row.get(n) for i, row in enumerate(made)} for n in names}).encode()


WRITERS = {
    "a.jsonl": lambda made: "\n".join(map(text, made)).encode(),
    "a.json": lambda made: text(made).encode(),
    "data.json": lambda made: text({"data": made}).encode(),
    "columns.json": as_columns,
    "a.csv": as_table,
    "a.jsonl.gz": lambda made: gzip.compress("\n".join(map(text, made)).encode()),
}
FORMATS = sorted({form for form, *_ in WORKED})


@pytest.mark.parametrize("name", FORMATS)
def test_each_damaged_row_is_kept_or_counted(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    share = -(-ROWS // len(FORMATS) // len(WRITERS))
    read = kept = 0
    for number, (file, write) in enumerate(WRITERS.items()):
        good = next(row for form, row, *_ in WORKED if form == name)
        made = [good, *rows(name, chance, share)]
        source, out = tmp_path / file, tmp_path / "out.jsonl"
        source.write_bytes(write(made))
        choices = Choices(
            chance.choice(["error", "drop"]),
            ["error", "rename", "skip"][number % 3],
            chance.random() < 0.5,
        )
        summary = import_records(source, out, format=name, on_error="skip", choices=choices)
        "\n".join(summary.lines()).encode("utf-8")
        assert summary.rows == len(made)
        assert summary.written + sum(summary.skipped.values()) == len(made)
        assert len(list(read_records(out, AnnotatedRecord))) == summary.written
        report = validate_records(out)
        assert report.ok, report.problems[:3]
        read, kept = read + summary.rows, kept + summary.written
        out.unlink()
    assert 0.02 * read < kept < 0.9 * read, "the damage is too little or too much to tell anything"


def test_damaged_rows_fail_an_import_with_a_message(tmp_path: Path) -> None:
    chance = random.Random(0)
    refused = 0
    for number in range(150):
        made = list(rows(chance.choice(FORMATS), chance, 3))
        source, out = tmp_path / "a.jsonl", tmp_path / f"{number}.jsonl"
        source.write_bytes("\n".join(map(text, made)).encode())
        try:
            import_records(source, out)
        except InputError as error:
            str(error).encode("utf-8")
            refused += 1
            assert not out.exists()
    assert refused > 50
