"""Raw rows: places, damage, and the forms in which files come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tspin.data.rows import arrays, reading
from tspin.data.rows.problems import Problem, Reason
from tspin.data.rows.reading import read_rows
from tspin.data.rows.row import RawRow
from tspin.data.rows.sources import find_sources
from tspin.errors import InputError


def read(path: Path) -> list[RawRow | Problem]:
    (file,) = find_sources(path).files
    return list(read_rows(file))


def places(items: list[RawRow | Problem]) -> list[tuple[int | None, int | None, object]]:
    return [
        (i.place.line, i.place.row, i.fields if isinstance(i, RawRow) else i.reason) for i in items
    ]


def test_lines_report_each_damaged_line_and_read_the_others(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"a": 1}\n'
        b'{"a": "caf\xe9"}\n'
        b'{"a": \n'
        b"\n"
        b'{"a": NaN}\n'
        b'{"a": 1, "a": 2}\n'
        b'["a"]\n'
        b'{"a": 1} {"a": 2}\n'
        b'{"a": 3}\r\n'
        b'{"a": 4}'
    )
    assert places(read(path)) == [
        (1, None, {"a": 1}),
        (2, None, Reason.NOT_UTF8),
        (3, None, Reason.BROKEN_JSON),
        (4, None, Reason.EMPTY_LINE),
        (5, None, Reason.BROKEN_JSON),
        (6, None, Reason.BROKEN_JSON),
        (7, None, Reason.NOT_AN_OBJECT),
        (8, None, Reason.BROKEN_JSON),
        (9, None, Reason.CARRIAGE_RETURNS),
        (9, None, {"a": 3}),
        (10, None, {"a": 4}),
    ]


def test_messages_name_the_byte_and_what_would_be_right(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "caf\xe9"}\n{"a": NaN}\n{"b": 1, "b": 2}\n')
    latin, nan, twice = (str(item) for item in read(path))
    assert (
        latin == f"{path}:1: byte 0xe9 (byte 11 of the line) is not UTF-8; save the file as UTF-8"
    )
    assert nan == f"{path}:2: NaN is not JSON; give a number, null or text"
    assert twice == f"{path}:3: field 'b' stands twice in one object; keep one of the two"


@pytest.mark.parametrize("text", [b'{"a": 1}\n', b'[{"a": 1}]'])
def test_a_byte_order_mark_costs_no_row(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" + text)
    mark, row = read(path)
    assert isinstance(mark, Problem)
    assert (mark.reason, mark.costs_row) == (Reason.BYTE_ORDER_MARK, False)
    assert isinstance(row, RawRow)
    assert row.fields == {"a": 1}


def test_utf16_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": 1}\n'.encode("utf-16"))
    with pytest.raises(InputError, match=r"rows.jsonl:1: .*UTF-16.*save the file as UTF-8"):
        read(path)


@pytest.mark.parametrize("indent", [None, 2])
def test_arrays_give_element_and_line(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "rows.json"
    rows = [{"a": 'x\ny ]}\\"'}, {"a": [{"b": 2}]}, {"a": 3.5}]
    path.write_text(json.dumps(rows, indent=indent))
    items = read(path)
    assert [item.fields for item in items if isinstance(item, RawRow)] == rows
    lines = [1, 1, 1] if indent is None else [2, 5, 12]
    assert [(item.place.line, item.place.row) for item in items] == list(
        zip(lines, [1, 2, 3], strict=True)
    )


def test_arrays_of_many_blocks_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of 7 bytes cut through strings, escapes, numbers and multi-byte characters.
    monkeypatch.setattr(arrays, "_BLOCK", 7)
    rows = [{"näme": 'ein Wört \u2028 \U0001f600 \\ " ' * i, "n": 12345678 + i} for i in range(9)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    assert [item.fields for item in read(path) if isinstance(item, RawRow)] == rows


def test_numbers_are_not_cut_at_the_edge_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_BLOCK", 7)
    path = tmp_path / "rows.json"
    path.write_text("[123456789, 7]")
    assert [str(item) for item in read(path)] == [
        f"{path}:1 (row 1): is 123456789, not an object with named fields",
        f"{path}:1 (row 2): is 7, not an object with named fields",
    ]


def test_an_endless_element_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_BLOCK", 100)
    monkeypatch.setattr(arrays, "MAX_ROW_BYTES", 1000)
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1},\n{"a": "' + "x" * 9000 + '"}]')
    with pytest.raises(InputError, match=r":2: broken JSON array: .*, in a row of more than 0 MiB"):
        read(path)


def test_a_bad_element_does_not_cost_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a": 1},\n{"a": "\xe9"},\n7,\n{"a": Infinity},\n{"a": 2}]\n')
    assert places(read(path)) == [
        (1, 1, {"a": 1}),
        (2, 2, Reason.NOT_UTF8),
        (3, 3, Reason.NOT_AN_OBJECT),
        (4, 4, Reason.BROKEN_JSON),
        (5, 5, {"a": 2}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a": }]', r":2: broken JSON array: Expecting value"),
        ('[{"a": 1}\n{"a": 2}]', r":2: broken JSON array: found '\{'; expected ',' or"),
        ('[{"a": 1},\n', r":2: broken JSON array: Expecting value"),
        ('[{"a": 1}', r":1: broken JSON array: found the end of the file"),
        ('[{"a": 1}]\n[]', r":2: text after the closing"),
        ("[" * 100_000, r":1: broken JSON array: nested too deeply"),
        ('{\n"data": []}', r":1: one JSON object spread over lines; expected an array"),
    ],
)
def test_a_broken_array_is_refused_at_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_row_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_ROW_BYTES", 20)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": "' + "x" * 95 + '"}\n{"a": 2}\n')
    assert places(read(path)) == [
        (1, None, {"a": 1}),
        (2, None, Reason.OVER_LONG),
        (3, None, {"a": 2}),
    ]
