"""Round trips through every format, and no input that breaks the import otherwise than it says."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tspin.data import FORMATS, import_records, validate_records
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, Message, content_id, read_records

SETTINGS = settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(min_size=1, max_size=30).filter(str.strip)


@st.composite
def annotated(draw: st.DrawFn, single_turn: bool, system: bool) -> AnnotatedRecord:
    extra = 0 if single_turn else draw(st.integers(0, 2))
    turns = [Message(role="user", content=draw(texts))]
    for _ in range(extra):
        turns.append(Message(role="assistant", content=draw(texts)))
        turns.append(Message(role="user", content=draw(texts)))
    if system and draw(st.booleans()):
        turns.insert(0, Message(role="system", content=draw(texts)))
    asked = turns[-1].content.strip()
    response = draw(texts.filter(lambda text: text.strip() != asked))
    return AnnotatedRecord(id=content_id(turns, response), messages=turns, response=response)


def turns_of(record: AnnotatedRecord) -> list[dict[str, str]]:
    prompt = [turn.model_dump() for turn in record.messages]
    return [*prompt, {"role": "assistant", "content": record.response}]


def asked(record: AnnotatedRecord) -> str:
    return record.messages[-1].content


def shared(record: AnnotatedRecord) -> list[dict[str, str]]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[t["role"]], "value": t["content"]} for t in turns_of(record)]


def alpaca(record: AnnotatedRecord) -> dict[str, Any]:
    system = [turn.content for turn in record.messages if turn.role == "system"]
    spoken = [turn.content for turn in record.messages if turn.role != "system"]
    pairs = [[spoken[i], spoken[i + 1]] for i in range(0, len(spoken) - 1, 2)]
    row = {"instruction": spoken[-1], "input": "", "output": record.response, "history": pairs}
    return {**row, "system": system[0]} if system else row


# name: (row of a record, whether only single turns, whether a system turn can stand in it)
WRITERS: dict[str, tuple[Callable[[AnnotatedRecord], dict[str, Any]], bool, bool]] = {
    "tspin": (lambda r: r.as_json(), False, True),
    "spin": (lambda r: {"real": turns_of(r), "generated": turns_of(r)[:-1]}, False, True),
    "prompt-completion": (
        lambda r: {"prompt": turns_of(r)[:-1], "completion": turns_of(r)[-1:]},
        False,
        True,
    ),
    "preference": (lambda r: {"chosen": turns_of(r), "rejected": turns_of(r)}, False, True),
    "messages": (lambda r: {"messages": turns_of(r)}, False, True),
    "alpaca": (alpaca, False, True),
    "sharegpt": (lambda r: {"conversations": shared(r)}, False, True),
    "question-answer": (lambda r: {"question": asked(r), "answer": r.response}, True, False),
    "dolly": (lambda r: {"instruction": asked(r), "response": r.response}, True, False),
    "question-response": (lambda r: {"question": asked(r), "response": r.response}, True, False),
    "query-response": (lambda r: {"query": asked(r), "response": r.response}, True, False),
    "openai-preference": (
        lambda r: {"input": {"messages": turns_of(r)[:-1]}, "preferred_output": turns_of(r)[-1:]},
        False,
        True,
    ),
    "input-output": (lambda r: {"input": asked(r), "output": r.response}, True, False),
}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=len(rows) % 3 or None), encoding="utf-8")
    else:
        path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))


def test_every_format_has_a_writer() -> None:
    assert WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", sorted(WRITERS))
@SETTINGS
@given(data=st.data())
def test_round_trip(tmp_path: Path, name: str, ending: str, data: st.DataObject) -> None:
    to_row, single_turn, system = WRITERS[name]
    records = data.draw(
        st.lists(annotated(single_turn, system), min_size=1, max_size=5, unique_by=lambda r: r.id)
    )
    source, out = tmp_path / f"in.{ending}", tmp_path / "out.jsonl"
    write(source, [to_row(record) for record in records])
    summary = import_records(source, out)
    assert (summary.format, summary.written) == (name, len(records))
    assert list(read_records(out, AnnotatedRecord)) == records


KEYS = [*"ab", "id", "system", "prompt", "response", "messages", "real", "chosen", "completion"]
KEYS += ["question", "answer", "conversations", "instruction", "input", "output", "history"]
KEYS += ["role", "content", "from", "value", "\ud800"]

row_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner | st.sampled_from(["user", "assistant", "system"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


def attempt(source: Path, out: Path, **options: Any) -> bool:
    """Whether the file is taken: then every step can read it, else the error can be printed."""
    out.unlink(missing_ok=True)
    try:
        summary = import_records(source, out, **options)
    except InputError as error:
        str(error).encode("utf-8")  # It can be printed.
        return False
    "\n".join(summary.lines()).encode("utf-8")
    assert summary.rows == summary.written + sum(summary.skipped.values())
    assert len(list(read_records(out, AnnotatedRecord))) == summary.written
    assert validate_records(out).ok
    return True


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet", "txt"])
@settings(SETTINGS, max_examples=40)
@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"[", b'{"a":', b"PAR1"]))
def test_arbitrary_bytes_are_refused_or_read(
    tmp_path: Path, ending: str, content: bytes, head: bytes
) -> None:
    source = tmp_path / f"in.{ending}"
    source.write_bytes(head + content)
    out = tmp_path / "out.jsonl"
    assert attempt(source, out, on_error="skip") == out.exists()  # Refused, it leaves nothing.


@pytest.mark.parametrize("name", [None, *sorted(FORMATS)])
@SETTINGS
@given(rows=st.lists(row_like, min_size=1, max_size=4), as_array=st.booleans())
def test_arbitrary_json_is_refused_or_read(
    tmp_path: Path, name: str | None, rows: list[Any], as_array: bool
) -> None:
    source = tmp_path / ("in.json" if as_array else "in.jsonl")
    source.write_text(json.dumps(rows) if as_array else "\n".join(map(json.dumps, rows)))
    for on_error in ("fail", "skip"):
        out = tmp_path / "out.jsonl"
        assert attempt(source, out, format=name, on_error=on_error) == out.exists()


@SETTINGS
@given(rows=st.lists(st.text(string.printable, max_size=30) | row_like, min_size=1, max_size=4))
def test_a_file_called_valid_is_one_that_every_step_reads(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "a.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    good = '{"id": "good", "prompt": "q", "response": "a"}'
    path.write_text("\n".join([good, *lines]))
    report = validate_records(path)
    if report.ok:
        assert len(list(read_records(path, AnnotatedRecord))) == report.rows
    else:
        "\n".join(map(str, report.problems)).encode("utf-8")
