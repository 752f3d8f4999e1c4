"""Rows labelled bad, and what the user may choose: trailing turns, repeated ids, extra fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tspin.data import Choices, ImportSummary, import_records
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, read_records

U1, A1 = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
U2, A2 = {"role": "user", "content": "and 3+3?"}, {"role": "assistant", "content": "6"}
KEPT = {"role": "user", "content": "Kept?"}


def run(tmp_path: Path, rows: list[Any], **options: Any) -> tuple[ImportSummary, list[Any]]:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = import_records(source, out, **options)
    return summary, list(read_records(out, AnnotatedRecord))


def shared(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # A row marked bad, the same one marked good or not at all, and the field.
    (
        {"prompt": "2+2?", "completion": "5", "label": False},
        {"prompt": "1?", "completion": "1", "label": True},
        "label",
    ),
    (
        {"prompt": [U1], "completion": [A2], "label": 0},
        {"prompt": [U2], "completion": [A2], "label": 1},
        "label",
    ),
    (
        {"messages": [U1, A2], "label": "False"},
        {"messages": [U2, A2], "label": "true"},
        "label",
    ),
    (
        {"instruction": "2+2?", "input": "", "output": "5", "kto_tag": False},
        {"instruction": "1?", "output": "1", "kto_tag": True},
        "kto_tag",
    ),
    (
        {"conversations": shared("2+2?", "5"), "kto_tag": False},
        {"conversations": shared("1?", "1"), "kto_tag": True},
        "kto_tag",
    ),
    (
        {"prompt": "2+2?", "response": "5", "label": False},
        {"prompt": "1?", "response": "1", "label": True},
        "label",
    ),
    (
        {"messages": [U1, {**A2, "weight": 0}]},
        {"messages": [U2, {**A2, "weight": 1}]},
        "messages[].weight",
    ),
    (
        {"messages": [U1, {**A2, "train": False}]},
        {"messages": [{**U2, "train": False}, {**A2, "train": True}]},
        "messages[].train",
    ),
    (
        {"messages": [U1, {**A2, "loss": False}]},
        {"messages": [U1, {**A2, "loss": False}, U2, A2]},
        "messages[].loss",
    ),
    (
        {"conversations": [shared("2+2?", "")[0], {"from": "gpt", "value": "5", "weight": 0.0}]},
        {"conversations": [{**shared("1?", "")[0], "weight": 0}, shared("", "1")[1]]},
        "conversations[].weight",
    ),
    (
        {"messages": [U1, {**A2, "loss": 0}]},
        {"messages": [U2, {**A2, "loss": 1}]},
        "messages[].loss",
    ),
    (
        {"question": "2+2?", "answer": "5", "weight": 0},
        {"question": "1?", "answer": "1", "weight": 0.5},
        "weight",
    ),
]


@pytest.mark.parametrize(("bad", "good", "field"), BAD)
def test_a_row_labelled_bad_is_counted_and_no_annotation(
    tmp_path: Path, bad: dict[str, Any], good: dict[str, Any], field: str
) -> None:
    summary, records = run(tmp_path, [bad, good])
    assert (summary.rows, summary.written, summary.skipped) == (2, 1, {"labelled bad": 1})
    assert records[0].response in ("1", "6")
    assert f"in.jsonl:1: field '{field}'" in str(summary.problems[0])
    with pytest.raises(InputError, match=r"none of 1 rows can be an annotation \(labelled bad: 1"):
        run(tmp_path, [bad])


def test_a_topic_under_label_is_no_verdict(tmp_path: Path) -> None:
    row = {"question": "1?", "answer": "1", "label": "arithmetic"}
    summary, _ = run(tmp_path, [row])
    assert (summary.written, summary.ignored_fields) == (1, {"label": 1})
    numbered = {"question": "1?", "answer": "1", "label": 7}
    summary, _ = run(tmp_path, [numbered], choices=Choices(ignore_extra=True))
    assert (summary.written, summary.ignored_fields) == (1, {"label": 1})


def test_a_trailing_user_turn_is_refused_or_dropped(tmp_path: Path) -> None:
    rows = [{"messages": [U1, A1, U2]}, {"messages": [KEPT, A1]}]
    with pytest.raises(InputError, match=r":1: field 'messages' has the roles .*--trailing-user"):
        run(tmp_path, rows)
    summary, records = run(tmp_path, rows, choices=Choices(trailing_user="drop"))
    assert [(r.messages[-1].content, r.response) for r in records] == [
        ("2+2?", "4"),
        ("Kept?", "4"),
    ]
    assert summary.note_counts == {"trailing user turns dropped": 1}
    with pytest.raises(InputError, match="has the roles"):
        run(tmp_path, [{"messages": [U1]}], choices=Choices(trailing_user="drop"))


def test_a_repeated_id_is_refused_renamed_or_skipped(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "1?", "answer": "1"},
        {"id": "a", "question": "2?", "answer": "2"},
        {"id": "a", "question": "2?", "answer": "2"},
    ]
    with pytest.raises(InputError, match=r":2: field 'id' is 'a' as in line 1.*--on-duplicate ren"):
        run(tmp_path, rows[:2])
    summary, records = run(tmp_path, rows[:2], choices=Choices(on_duplicate="rename"))
    first, second = records
    assert (first.id, second.response) == ("a", "2")
    assert second.id.startswith("a-")
    assert summary.note_counts == {"repeated ids renamed": 1}
    _, again = run(tmp_path, rows[:2], choices=Choices(on_duplicate="rename"))
    assert [record.id for record in again] == [record.id for record in records]
    with pytest.raises(InputError, match="has the same prompt and response as line 2"):
        run(tmp_path, rows, choices=Choices(on_duplicate="rename"))
    summary, records = run(tmp_path, [*rows, rows[0]], choices=Choices(on_duplicate="skip"))
    assert [record.response for record in records] == ["1"]
    assert summary.skipped == {"duplicate id": 2, "duplicate content": 1}


def test_an_index_of_pandas_is_no_extra_field(tmp_path: Path) -> None:
    rows = [{"prompt": "1?", "response": "1", "__index_level_0__": 7, "Unnamed: 0": 7}]
    summary, _ = run(tmp_path, rows)
    assert summary.ignored_fields == {"Unnamed: 0": 1, "__index_level_0__": 1}


def test_extra_fields_of_our_own_format_may_be_ignored(tmp_path: Path) -> None:
    rows = [{"prompt": "1?", "response": "1", "source": "x", "score": 3}]
    with pytest.raises(InputError, match=r"'score' is not a field of .* --ignore-extra"):
        run(tmp_path, rows)
    summary, records = run(tmp_path, rows, choices=Choices(ignore_extra=True))
    assert summary.ignored_fields == {"score": 1, "source": 1}
    assert records[0].response == "1"


@pytest.mark.parametrize("name", ["trailing_user", "on_duplicate"])
def test_a_choice_that_is_none_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 'x'; expected 'error'"):
        Choices(**{name: "x"})
