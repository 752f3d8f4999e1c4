"""Validation: every problem with its line, as strict as every step reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tspin.data import validate_records
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, read_records


def test_every_problem_has_its_line_field_and_fix(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"id": "1", "prompt": "q", "response": "a"}\n'
        b'{"prompt": "q2", "response": "a"}\n'
        b'{"id": "3", "prompt": "q3", "response": "", "source": "x"}\n'
        b"\n"
        b'{"id": "1", "prompt": "q5", "response": "a"}\n'
        b'{"id": 6, "prompt": "q6", "response": "a"}\n'
        b'{"id": "7", "prompt": "", "response": ""}\n'
        b'{"id": "8", "messages": null, "prompt": "q8", "response": "a"}\n'
        b'{"id": "9", "prompt": "q9", "response": "a"}\r\n'
        b'{"id": "10", "messages": [{"from": "human", "value": "q"}], "response": "b"}\n'
        b'{"id": "11", "prompt": "q", "response": "b", "weight": 1, "source": 2}\n'
    )
    report = validate_records(path)
    assert not report.ok
    assert (report.rows, report.valid, report.total) == (10, 2, 12)
    assert report.counts["missing field"] == 1
    assert [(p.place.line, str(p.reason), p.flaw.field) for p in report.problems] == [
        (2, "missing field", "id"),
        (3, "extra field", "source"),
        (4, "empty line", None),
        (5, "duplicate id", "id"),
        (6, "wrong type", "id"),
        (7, "empty prompt", "prompt"),
        (7, "empty response", "response"),
        (8, "wrong type", None),
        (9, "carriage returns", None),
        (10, "wrong type", None),
        (11, "extra field", "source"),
        (11, "extra field", "weight"),
    ]


def test_a_good_file_is_valid_and_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"id": "1", "prompt": "q", "response": "a"}\n{"id": "2", "prompt": "q", "response": "b"}'
    )
    report = validate_records(path)
    assert (report.ok, report.rows, report.valid, report.problems) == (True, 2, 2, ())
    assert len(list(read_records(path, AnnotatedRecord))) == 2


def test_a_byte_order_mark_stops_the_steps_and_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "1", "prompt": "q", "response": "a"}\n')
    (problem,) = validate_records(path).problems
    assert str(problem).startswith(f"{path}:1: begins with a byte-order mark (BOM); save the file")
    with pytest.raises(InputError):
        list(read_records(path, AnnotatedRecord))


def test_more_problems_than_asked_for_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"nonsense\n" * 50)
    report = validate_records(path, max_problems=7)
    assert (len(report.problems), report.total, report.counts) == (7, 50, {"broken JSON": 50})


def test_nothing_to_validate_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(InputError, match="no such file"):
        validate_records(path)
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="no rows in it"):
        validate_records(path)
