"""Thoughts and tools: every shape reaches the record, and validation and split read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tspin.data import import_records, split_records, validate_records
from tspin.records.records import AnnotatedRecord, read_records

U = {"role": "user", "content": "Weather?"}
CALL = {"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"at": "here"}'}}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "sunny", "tool_call_id": "1"}
A = {"role": "assistant", "content": "It is sunny."}
TOOL = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}
BARE = {"type": "function", "function": {"name": "w", "arguments": {"at": "here"}}}


def imported(tmp_path: Path, row: dict[str, Any]) -> AnnotatedRecord:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(orjson.dumps(row) + b"\n")
    import_records(source, out)
    assert validate_records(out).ok
    again = tmp_path / "again.jsonl"
    import_records(out, again)
    assert again.read_bytes() == out.read_bytes()
    [record] = read_records(out, AnnotatedRecord)
    return record


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [U, {**A, "reasoning_content": "Look."}]},
        {"messages": [U, {**A, "thinking": "Look."}]},
        {"messages": [U, {**A, "reasoning": "Look."}]},
        {
            "messages": [
                U,
                {**A, "content": [{"type": "thinking", "thinking": "Look."}, A["content"]]},
            ]
        },
        {"prompt": "Weather?", "completion": A["content"], "reasoning_content": "Look."},
        {"question": "Weather?", "answer": A["content"], "thinking": "Look."},
        {"prompt": "Weather?", "response": A["content"], "reasoning_content": "Look."},
    ],
)
def test_the_thought_of_the_target_turn_is_carried(tmp_path: Path, row: dict[str, Any]) -> None:
    record = imported(tmp_path, row)
    assert (record.reasoning_content, record.response) == ("Look.", "It is sunny.")


def test_thoughts_are_told_and_no_empty_one_is_kept(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"messages": [U, {**A, "thinking": text}]} for text in ("", "Look.")]
    source.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    summary = import_records(source, out)
    assert [r.reasoning_content for r in read_records(out, AnnotatedRecord)] == [None, "Look."]
    [told] = [line for line in summary.lines() if "reasoning_content" in line]
    assert told.startswith("note: 1 records have a thought")
    assert "prompt.reasoning" in told


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([U, CALLS, RESULT, A], [CALL]),
        ([U, {**CALLS, "content": None}, RESULT, A], [CALL]),
        ([U, {**CALLS, "tool_calls": json.dumps([CALL])}, RESULT, A], [CALL]),
        ([U, {**CALLS, "tool_calls": [BARE["function"]]}, RESULT, A], [BARE]),
        (
            [
                U,
                {"role": "assistant", "content": None, "function_call": CALL["function"]},
                {"role": "function", "name": "w", "content": "sunny"},
                A,
            ],
            [{"type": "function", "function": CALL["function"]}],
        ),
        (
            [
                U,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "1", "name": "w", "input": {"at": "here"}}
                    ],
                },
                RESULT,
                A,
            ],
            [{"id": "1", **BARE}],
        ),
    ],
)
def test_calls_and_results_stand_in_the_prompt(
    tmp_path: Path, turns: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    record = imported(tmp_path, {"messages": turns, "tools": [TOOL]})
    assert [turn.role for turn in record.messages] == ["user", "assistant", "tool"]
    assert (record.messages[1].content, record.messages[1].tool_calls) == ("", expected)
    assert record.messages[2].content == "sunny"
    assert record.tools == [TOOL]
    assert record.response == "It is sunny."


def test_shared_conversations_call_in_a_turn_of_their_own(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": json.dumps(BARE["function"])},
        {"from": "observation", "value": "sunny"},
        {"from": "gpt", "value": "It is sunny."},
    ]
    record = imported(tmp_path, {"conversations": turns, "tools": json.dumps([TOOL["function"]])})
    assert record.messages[1].tool_calls == [BARE]
    assert record.tools == [TOOL]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [U, CALLS]},
        {"prompt": [U], "completion": [CALLS]},
        {"chosen": [U, CALLS], "rejected": [U, A]},
        {"prompt": "Weather?", "response": "", "tool_calls": [CALL]},
    ],
)
def test_the_target_turn_may_be_a_call(tmp_path: Path, row: dict[str, Any]) -> None:
    record = imported(tmp_path, row)
    assert (record.response, record.tool_calls) == ("", [CALL])


def test_columns_hold_nulls_where_a_row_has_no_key(tmp_path: Path) -> None:
    """As Arrow unites the objects of all rows: what was absent comes back null."""
    tools = [
        {"type": "function", "function": {"name": "a", "parameters": {"x": {"type": "string"}}}},
        {"type": "function", "function": {"name": "b", "parameters": {"y": {"type": "integer"}}}},
    ]
    rows = [{"messages": [U, A], "tools": tools}, {"messages": [U, CALLS], "tools": tools[1:]}]
    source, out = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    pq.write_table(pa.Table.from_pylist(rows), source)
    import_records(source, out)
    first, second = read_records(out, AnnotatedRecord)
    assert (first.tools, second.tools) == (tools, tools[1:])
    assert second.tool_calls == [CALL]


def test_records_with_thoughts_and_tools_are_split(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{i}?"}, CALLS, RESULT, A], "tools": [TOOL]}
        for i in range(40)
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    import_records(source, out)
    sides = [tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"]
    counts = split_records(out, train=sides[0], heldout=sides[1], heldout_share=0.5)
    assert counts.train + counts.heldout == 40
    both = sorted(line for side in sides for line in side.read_bytes().splitlines())
    assert both == sorted(out.read_bytes().splitlines())
