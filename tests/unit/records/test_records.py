from pathlib import Path

import orjson
import pytest

from tspin.errors import InputError
from tspin.records.records import (
    AnnotatedRecord,
    Message,
    Response,
    content_id,
    read_located,
    read_record_at,
    read_records,
    write_records,
)


def read(tmp_path: Path, text: str | bytes) -> list[AnnotatedRecord]:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_records(path, AnnotatedRecord))


def test_a_prompt_is_one_user_turn_and_is_written_as_one(tmp_path: Path) -> None:
    [record] = read(tmp_path, '{"id": "1", "prompt": "p", "response": "r"}\n')
    assert record.messages == [Message(role="user", content="p")]
    out = tmp_path / "b.jsonl"
    assert write_records(out, [record]) == 1
    assert out.read_text() == '{"id":"1","prompt":"p","response":"r"}\n'


def test_conversations_round_trip(tmp_path: Path) -> None:
    line = (
        '{"id":"1","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},'
        '{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"response":"d"}\n'
    )
    write_records(tmp_path / "b.jsonl", read(tmp_path, line))
    assert (tmp_path / "b.jsonl").read_text() == line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "1", "prompt": "p"}', "a.jsonl:2: field 'response' is missing"),
        ('{"prompt": "p", "response": "r"}', "field 'id' is missing"),
        ('{"id": 1, "prompt": "p", "response": "r"}', "field 'id' is 1"),
        ('{"id": "1", "prompt": "p", "response": "r", "x": 1}', "field 'x' is not a field"),
        ('{"id": "1", "prompt": "p", "messages": [], "response": "r"}', "both 'prompt' and"),
        ('{"id": "1", "messages": [], "response": "r"}', "right would be"),
        (
            '{"id": "1", "messages": [{"role": "assistant", "content": "c"}], "response": "r"}',
            "right would be an optional system turn",
        ),
        (
            '{"id": "1", "messages": [{"role": "bot", "content": "c"}], "response": "r"}',
            "field 'messages.0.role' is 'bot'",
        ),
        ('{"id": "0", "prompt": "p", "response": "r"}', "id '0' stands on an earlier line"),
        ('{"id": "1", ', "not a JSON object in UTF-8"),
        (
            '{"id": "1", "messages": [{"role": "user", "content": "c", "tool_calls": [{}]}],'
            ' "response": "r"}',
            "'tool_calls' belongs to turns of assistant, not of user",
        ),
        (
            '{"id": "1", "messages": [{"role": "user", "content": "a"},{"role": "assistant",'
            ' "content": "b"},{"role": "tool", "content": "c"}], "response": "r"}',
            "tool turns only after an assistant turn with 'tool_calls'",
        ),
        ('{"id": "1", "prompt": "p", "response": "r", "tools": []}', "field 'tools' is []"),
        ("[]", "a.jsonl:2"),
        ("", "not a JSON object"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    good = '{"id": "0", "prompt": "p", "response": "r"}\n'
    with pytest.raises(InputError) as raised:
        read(tmp_path, good + line + "\n")
    assert expected in str(raised.value)
    assert "a.jsonl:2: " in str(raised.value)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.jsonl:1: not a JSON object in UTF-8"):
        read(tmp_path, b'{"id": "1", "prompt": "\xff", "response": "r"}\n')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected responses"):
        list(read_records(tmp_path / "x.jsonl", Response))


def test_offsets_find_their_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records = [
        AnnotatedRecord.model_validate({"id": i, "prompt": "é" * 5, "response": i}) for i in "abc"
    ]
    write_records(path, records)
    offsets = {record.id: offset for offset, record in read_located(path, AnnotatedRecord)}
    with path.open("rb") as file:
        assert read_record_at(file, offsets["c"], AnnotatedRecord) == records[2]
        assert read_record_at(file, offsets["a"], AnnotatedRecord) == records[0]


CALLS = [{"id": "1", "type": "function", "function": {"name": "w", "arguments": "{}"}}]
ASKED = {
    "id": "1",
    "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "reasoning_content": "Look.", "tool_calls": CALLS},
        {"role": "tool", "content": "sunny", "tool_call_id": "1", "name": "w"},
    ],
    "tools": [{"type": "function", "function": {"name": "w", "parameters": None}}],
    "response": "",
    "reasoning_content": "Once more.",
    "tool_calls": CALLS,
}


def test_thoughts_and_tools_round_trip(tmp_path: Path) -> None:
    line = orjson.dumps(ASKED) + b"\n"
    [record] = read(tmp_path, line)
    write_records(tmp_path / "b.jsonl", [record])
    assert (tmp_path / "b.jsonl").read_bytes() == line
    assert [message.model_dump() for message in record.messages] == ASKED["messages"]


def test_the_content_id_sees_thoughts_and_tools() -> None:
    record = AnnotatedRecord.model_validate(ASKED)
    plain = [Message(role=turn.role, content=turn.content) for turn in record.messages]
    ids = {
        content_id(record.messages, ""),
        content_id(plain, ""),
        content_id(plain, "", {"tools": record.tools}),
        content_id(plain, "", {"tool_calls": CALLS}),
        content_id(plain, "", {"reasoning_content": "a"}),
    }
    assert len(ids) == 5


def test_content_ids_of_earlier_releases_hold() -> None:
    turns = [Message(role="system", content="s"), Message(role="user", content="a")]
    assert content_id(turns, "r", {"tools": None, "tool_calls": None}) == "1223a0d7fc77851d"


def test_the_content_id_sees_roles_turns_and_response() -> None:
    one = [Message(role="user", content="a")]
    ids = {
        content_id(one, "r"),
        content_id(one, "s"),
        content_id([Message(role="system", content="a")], "r"),
        content_id([*one, *one], "r"),
    }
    assert len(ids) == 4
    assert content_id(one, "r") == content_id([Message(role="user", content="a")], "r")


def test_responses_are_told_apart_by_their_samples(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    fields = {"response": "r", "finish_reason": "stop", "prompt_tokens": 1, "response_tokens": 1}
    first = Response.model_validate({"id": "a", "seed": 1} | fields)
    second = first.model_copy(update={"sample": 1})
    write_records(path, [first, second])
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line.get("sample") for line in lines] == [None, 1]  # As before there were several.
    assert list(read_records(path, Response)) == [first, second]
    write_records(path, [first, second, second])
    with pytest.raises(InputError, match="3: id 'a', sample 1, stands on an earlier line too"):
        list(read_records(path, Response))
