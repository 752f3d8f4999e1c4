"""Import: nothing is dropped in silence, nothing half-written stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tspin.data import ImportSummary, import_records
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, read_records

GOOD = {"question": "2+2?", "answer": "4"}


def save(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


BAD: list[tuple[str, Any, str]] = [
    ("empty response", {"question": "q", "answer": " \n"}, "'answer' holds an empty response"),
    ("empty prompt", {"question": "", "answer": "a"}, "'question' holds an empty prompt"),
    (
        "response identical to the prompt",
        {"question": "same", "answer": "same "},
        "'answer' holds a response identical to the prompt",
    ),
    ("over-long", {"question": "q" * 60, "answer": "a" * 60}, "has 120 characters, the limit is 1"),
    (
        "lone surrogate",
        b'{"question": "q \\ud83d", "answer": "a"}',
        "'question' holds half of a surrogate pair (\\ud83d)",
    ),
    ("lone surrogate", b'{"id": "\\udc00", "question": "q", "answer": "a"}', "'id' holds half"),
    ("broken JSON", b'{"question": ', "not whole JSON"),
    ("not UTF-8", b'{"question": "\xff", "answer": "a"}', "byte 0xff"),
    ("missing field", {"question": "q"}, "'answer' is missing"),
    ("wrong type", {"question": 3, "answer": "a"}, "'question' is 3; expected text"),
    ("not an object", [1], "is [1], not an object"),
    ("duplicate content", GOOD, "has the same prompt and response as line 1; keep one"),
    ("duplicate content", {**GOOD, "id": "other"}, "has the same prompt and response as line 1"),
]


@pytest.mark.parametrize(("reason", "row", "message"), BAD)
def test_each_problem_fails_the_import_or_is_skipped_and_counted(
    tmp_path: Path, reason: str, row: Any, message: str
) -> None:
    source = save(tmp_path / "in.jsonl", [GOOD, row, {"question": "3+3?", "answer": "6"}])
    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError) as caught:
        import_records(source, out, max_chars=100)
    assert f"{source}:2: " in str(caught.value)
    assert message in str(caught.value)
    assert "1 of 3 rows have problems, nothing was written; --on-error skip keeps the good " in str(
        caught.value
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]

    summary = import_records(source, out, on_error="skip", max_chars=100)
    assert (summary.rows, summary.written, summary.skipped) == (3, 2, {reason: 1})
    assert [record.response for record in read_records(out, AnnotatedRecord)] == ["4", "6"]
    text = "\n".join(summary.lines())
    assert f"  {reason}: 1" in text
    assert message in text


def test_an_earlier_output_survives_a_failed_import(tmp_path: Path) -> None:
    source = save(tmp_path / "in.jsonl", [GOOD, {"question": "q"}])
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    with pytest.raises(InputError):
        import_records(source, out)
    assert out.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl"}


def test_an_id_given_twice_is_refused_and_the_content_stays_free(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "q1", "answer": "x"},
        {"id": "a", "question": "q2", "answer": "x"},
        {"id": "b", "question": "q2", "answer": "x"},
    ]
    source, out = save(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    with pytest.raises(InputError, match=r":2: field 'id' is 'a' as in line 1, whose content diff"):
        import_records(source, out)
    summary = import_records(source, out, on_error="skip")
    assert summary.skipped == {"duplicate id": 1}
    assert [record.id for record in read_records(out, AnnotatedRecord)] == ["a", "b"]


def test_duplicates_are_found_over_files_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.jsonl", [GOOD])
    save(folder / "b.jsonl", [GOOD])
    (folder / "LICENSE").write_text("free")
    with pytest.raises(InputError) as caught:
        import_records(folder, tmp_path / "out.jsonl")
    assert f"b.jsonl:1: has the same prompt and response as line 1 of {folder / 'a.jsonl'}" in str(
        caught.value
    )
    summary = import_records(folder, tmp_path / "out.jsonl", on_error="skip")
    assert [path.name for path in summary.files] == ["a.jsonl", "b.jsonl"]
    assert f"not read: {folder / 'LICENSE'}" in summary.lines()


def test_the_form_of_the_file_costs_no_row_and_is_noted(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    other = orjson.dumps({"question": "3+3?", "answer": "6"})
    source.write_bytes(b"\xef\xbb\xbf" + orjson.dumps(GOOD) + b"\r\n\r\n\r\n" + other + b"\r\n")
    summary = import_records(source, tmp_path / "out.jsonl")
    assert (summary.written, summary.skipped) == (2, {})
    assert summary.note_counts == {"byte-order mark": 1, "carriage returns": 1, "empty line": 2}
    notes = [str(note) for note in summary.notes]
    assert notes[0].startswith(f"{source}:1: begins with a byte-order mark")
    assert notes[2].startswith(f"{source}:2: empty line; expected one JSON object a line")


def test_a_row_with_two_problems_is_counted_once_by_its_first(tmp_path: Path) -> None:
    source = save(tmp_path / "in.jsonl", [GOOD, {"question": "", "answer": ""}])
    summary = import_records(source, tmp_path / "out.jsonl", on_error="skip")
    assert summary.skipped == {"empty prompt": 1}
    assert [str(problem.reason) for problem in summary.problems] == [
        "empty prompt",
        "empty response",
    ]


def test_all_problems_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    rows = [GOOD, *({"question": f"q{i}"} for i in range(70)), *([GOOD] * 30)]
    with pytest.raises(InputError) as caught:
        import_records(save(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    lines = str(caught.value).splitlines()
    assert "100 of 101 rows have problems" in lines[0]
    assert "(missing field: 70, duplicate content: 30):" in lines[0]
    assert len(lines) == 22
    assert lines[-1] == "  ... and 80 more"


def test_nothing_good_is_an_error_even_with_skip(tmp_path: Path) -> None:
    source = save(tmp_path / "in.jsonl", [{"question": "q", "answer": ""}])
    with pytest.raises(InputError, match="1 of 1 rows have problems, nothing was written"):
        import_records(source, tmp_path / "out.jsonl", on_error="skip")
    for content in (b"", b"\n\n"):
        source.write_bytes(content)
        with pytest.raises(InputError, match="no rows in it"):
            import_records(source, tmp_path / "out.jsonl", on_error="skip")
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_that_are_all_broken_are_shown_before_the_format_is_asked_for(tmp_path: Path) -> None:
    source = save(tmp_path / "in.jsonl", [b"nonsense", b"more"])
    with pytest.raises(InputError) as caught:
        import_records(source, tmp_path / "out.jsonl")
    assert "no rows in it that can be read" in str(caught.value)
    assert f"{source}:2: not whole JSON" in str(caught.value)


@pytest.mark.parametrize("out", ["in", "in/out.jsonl", "in/a.jsonl", "folder"])
def test_the_source_is_never_overwritten(tmp_path: Path, out: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "folder").mkdir()
    source = save(tmp_path / "in" / "a.jsonl", [GOOD])
    before = source.read_bytes()
    with pytest.raises(InputError, match=r"name another file|name the file to write"):
        import_records(tmp_path / "in", tmp_path / out)
    with pytest.raises(InputError, match="name another file"):
        import_records(source, source)
    assert source.read_bytes() == before


@pytest.mark.parametrize(("key", "value"), [("on_error", "ignore"), ("max_chars", 0)])
def test_wrong_arguments_are_named(tmp_path: Path, key: str, value: Any) -> None:
    source = save(tmp_path / "in.jsonl", [GOOD])
    with pytest.raises(InputError, match=f"{key} is"):
        import_records(source, tmp_path / "out.jsonl", **{key: value})


def test_importing_what_was_imported_changes_no_byte(tmp_path: Path) -> None:
    rows = [GOOD, {"question": "naïve \U0001f600\u2028?", "answer": "  kept as it is\n"}]
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    import_records(save(tmp_path / "in.jsonl", rows), once)
    summary: ImportSummary = import_records(once, twice)
    assert summary.format == "tspin"
    assert once.read_bytes() == twice.read_bytes()
    assert orjson.loads(orjson.dumps(summary.as_dict()))["written"] == 2
