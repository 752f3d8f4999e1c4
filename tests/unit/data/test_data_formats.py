"""Every format: worked rows, the rule for the target turn, detection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tspin.data import FORMATS, import_records, validate_records
from tspin.data.formats.detection import detect_format
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, content_id, read_records

U1, A1 = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
U2, A2 = {"role": "user", "content": "and 3+3?"}, {"role": "assistant", "content": "6"}
S = {"role": "system", "content": "Be brief."}
SHARED = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "2+2?"},
    {"from": "gpt", "value": "4"},
]

TOOL = {"role": "tool", "content": "4"}
CALLS = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]

# format, row, turns of the prompt, response
WORKED: list[tuple[str, dict[str, Any], list[dict[str, str]], str]] = [
    ("tspin", {"prompt": "2+2?", "response": "4"}, [U1], "4"),
    ("tspin", {"messages": [S, U1, A1, U2], "response": "6"}, [S, U1, A1, U2], "6"),
    ("spin", {"real": [U1, A1], "generated": [U1, A2]}, [U1], "4"),
    ("spin", {"real": [S, U1, A1, U2, A2]}, [S, U1, A1, U2], "6"),
    ("prompt-completion", {"prompt": "2+2?", "completion": " 4"}, [U1], " 4"),
    ("prompt-completion", {"prompt": [S, U1], "completion": [A1]}, [S, U1], "4"),
    ("prompt-completion", {"prompt": [U1], "completion": [A1, U2, A2]}, [U1, A1, U2], "6"),
    ("preference", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, [U1], "4"),
    ("preference", {"prompt": [S, U1], "chosen": [A1], "rejected": [A2]}, [S, U1], "4"),
    ("preference", {"prompt": [S, U1], "chosen": "4", "rejected": "5"}, [S, U1], "4"),
    ("preference", {"prompt": "2+2?", "chosen": [A1], "rejected": [A2]}, [U1], "4"),
    ("preference", {"chosen": [U1, A1], "rejected": [U1, A2]}, [U1], "4"),
    ("preference", {"prompt": "2+2?", "chosen": [U1, A1]}, [U1], "4"),
    ("preference", {"prompt": [S, U1], "chosen": [S, U1, A1]}, [S, U1], "4"),
    ("messages", {"messages": [S, U1, A1]}, [S, U1], "4"),
    ("messages", {"messages": [U1, A1, U2, A2], "prompt": "2+2?"}, [U1, A1, U2], "6"),
    ("alpaca", {"instruction": "2+2?", "input": "", "output": "4"}, [U1], "4"),
    (
        "alpaca",
        {"instruction": "Add.", "input": "2 and 2", "output": "4", "system": "Be brief."},
        [S, {"role": "user", "content": "Add.\n2 and 2"}],
        "4",
    ),
    (
        "alpaca",
        {"instruction": "and 3+3?", "output": "6", "history": [["2+2?", "4"]]},
        [U1, A1, U2],
        "6",
    ),
    ("sharegpt", {"conversations": SHARED}, [S, U1], "4"),
    ("sharegpt", {"conversations": SHARED[1:], "system": "Be brief."}, [S, U1], "4"),
    ("question-answer", {"question": "2+2?", "answer": "4"}, [U1], "4"),
    ("input-output", {"input": "2+2?", "output": "4"}, [U1], "4"),
    ("dolly", {"instruction": "2+2?", "context": "", "response": "4", "category": "qa"}, [U1], "4"),
    (
        "dolly",
        {"instruction": "Add.", "context": "2 and 2", "response": "4"},
        [{"role": "user", "content": "Add.\n2 and 2"}],
        "4",
    ),
    # MetaMath, OpenOrca, Magpie
    ("query-response", {"query": "2+2?", "response": "4", "type": "add"}, [U1], "4"),
    (
        "question-response",
        {"id": "a", "system_prompt": "Be brief.", "question": "2+2?", "response": "4"},
        [S, U1],
        "4",
    ),
    (
        "sharegpt",
        {"instruction": "2+2?", "response": "4", "conversations": SHARED[1:], "uuid": "u"},
        [U1],
        "4",
    ),
    # LLaMA-Factory's preference pairs, Orca's, and one-turn objects
    (
        "preference",
        {"conversations": SHARED[:2], "chosen": SHARED[2], "rejected": {}},
        [S, U1],
        "4",
    ),
    ("preference", {"messages": [S, U1], "chosen": A1, "rejected": A2}, [S, U1], "4"),
    ("preference", {"messages": [U1, A1], "chosen": [U1, A1], "prompt": "2+2?"}, [U1], "4"),
    ("preference", {"messages": [U1, A1], "chosen": [U1, A1]}, [U1], "4"),
    (
        "preference",
        {"instruction": "Add.", "input": "2, 2", "chosen": "4", "rejected": "5", "history": []},
        [{"role": "user", "content": "Add.\n2, 2"}],
        "4",
    ),
    (
        "preference",
        {
            "instruction": "and 3+3?",
            "chosen": "6",
            "history": [["2+2?", "4"]],
            "system": "Be brief.",
        },
        [S, U1, A1, U2],
        "6",
    ),
    (
        "preference",
        {"system": "Be brief.", "question": "2+2?", "chosen": "4", "rejected": "5"},
        [S, U1],
        "4",
    ),
    (
        "preference",
        {"system": "Be brief.", "input": "2+2?", "chosen": "4", "rejected": "5"},
        [S, U1],
        "4",
    ),
    ("preference", {"prompt": U1, "chosen": A1, "rejected": A2}, [U1], "4"),
    ("preference", {"prompt": [U1], "chosen": [A1, U2, A2]}, [U1, A1, U2], "6"),
    # The prompt is what both texts begin with, up to a whole word
    (
        "preference",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        [{"role": "user", "content": "The sky is"}],
        " blue.",
    ),
    (
        "preference",
        {"chosen": "Look at the sky.", "rejected": "Look at the sea."},
        [{"role": "user", "content": "Look at the"}],
        " sky.",
    ),
    (
        "preference",
        {"chosen": "\u5929\u7a7a\u662f\u84dd", "rejected": "\u5929\u7a7a\u662f\u7eff"},
        [{"role": "user", "content": "\u5929\u7a7a\u662f"}],
        "\u84dd",
    ),
    (
        "preference",
        {
            "chosen": "\n\nHuman: 2+2?\n\nAssistant: 4\n\nHuman: and 3+3?\n\nAssistant: 6",
            "rejected": "\n\nHuman: 2+2?\n\nAssistant: 4\n\nHuman: and 3+3?\n\nAssistant: 66",
        },
        [U1, A1, U2],
        "6",
    ),
    (
        "openai-preference",
        {"input": {"messages": [S, U1]}, "preferred_output": [A1], "non_preferred_output": [A2]},
        [S, U1],
        "4",
    ),
    # Content parts, other names of roles, turns in columns and as text
    (
        "messages",
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "2+"}, {"text": "2?"}]},
                {"role": "model", "parts": [{"text": "4"}]},
            ]
        },
        [S, U1],
        "4",
    ),
    (
        "sharegpt",
        {"conversation": [{"from": "User", "value": "2+2?"}, {"from": "chatgpt", "value": "4"}]},
        [U1],
        "4",
    ),
    (
        "messages",
        {"messages": {"role": ["user", "assistant"], "content": ["2+2?", "4"]}},
        [U1],
        "4",
    ),
    (
        "messages",
        {"messages": '[{"role":"user","content":"2+2?"},{"role":"ai","content":"4"}]'},
        [U1],
        "4",
    ),
    ("messages", {"messages": str([U1, A1])}, [U1], "4"),
    ("prompt-completion", {"prompt": "2+2?", "completion": [A1]}, [U1], "4"),
    ("prompt-completion", {"prompt": [U1], "completion": "4"}, [U1], "4"),
    # A greeting belongs to the prompt
    ("messages", {"messages": [S, A1, U2, A2]}, [S, A1, U2], "6"),
]


def save(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "row", "messages", "response"), WORKED)
def test_worked_rows(
    tmp_path: Path,
    name: str,
    row: dict[str, Any],
    messages: list[dict[str, str]],
    response: str,
) -> None:
    out = tmp_path / "out.jsonl"
    summary = import_records(save(tmp_path / "in.jsonl", [row]), out)
    assert (summary.format, summary.rows, summary.written) == (name, 1, 1)
    (record,) = read_records(out, AnnotatedRecord)
    assert [turn.model_dump() for turn in record.messages] == messages
    assert record.response == response
    assert record.id == row.get("id", content_id(record.messages, record.response))
    assert validate_records(out).ok


def test_the_docs_list_every_format_with_its_keys() -> None:
    page = (Path(__file__).parents[3] / "docs/guides/data.md").read_text()
    table = page.partition("| format |")[2].partition("\n\n")[0]
    listed = {
        cells[0].strip(" `"): cells[1]
        for line in table.splitlines()[2:]
        if (cells := line.strip("| ").split(" | "))
    }
    assert list(listed) == list(FORMATS)
    for name, form in FORMATS.items():
        for names in form.needs:
            assert any(f"`{key}`" in listed[name] for key in names), name


def test_every_format_has_a_worked_row() -> None:
    assert {name for name, *_ in WORKED} == set(FORMATS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"real": [U1, A1, U2]}, "'real' has the roles [user, assistant, user]; right would be"),
        ({"real": [A1]}, "'real' has the roles [assistant]"),
        ({"real": []}, "'real' has the roles []"),
        ({"real": [U1, U2, A1]}, "'real' has the roles [user, user, assistant]"),
        ({"real": [U1, S, A1]}, "'real' has the roles [user, system, assistant]"),
        ({"real": "2+2?"}, "'real' is \"2+2?\"; expected a list of turns"),
        ({"real": [U1, "4"]}, "'real[1]' is \"4\"; expected an object with 'role' and 'content'"),
        ({"real": [U1, {"role": "narrator", "content": "4"}]}, "'real[1].role' is \"narrator\"; "),
        ({"real": [U1, {"role": "assistant"}]}, "'real[1].content' is missing"),
        ({"real": [U1, {"role": "assistant", "content": 4}]}, "'real[1].content' is 4; expected"),
        ({"prompt": [U1], "completion": 4}, "'completion' is 4; expected text"),
        ({"prompt": [S], "completion": "4"}, "'prompt + completion' has the roles [system, ass"),
        ({"messages": [U1, TOOL, A1]}, "'messages' has the roles [user, tool, assistant]; right"),
        ({"messages": [U1, {**A1, "content": [{"type": "image"}]}]}, "'messages[1].content[0]' is"),
        ({"messages": [U1, A1], "images": ["a.png"]}, "'images' is [\"a.png\"]; a record holds te"),
        ({"messages": [U1, A1], "tools": "{"}, "'tools' is \"{\", which is neither JSON nor"),
        ({"messages": [U1, A1], "tools": [1]}, "'tools[0]' is 1; expected a tool such as"),
        ({"messages": [U1, {**A1, "tool_calls": [{}]}]}, "'messages[1].tool_calls[0]' is {}; expe"),
        ({"messages": [{**U1, "tool_calls": CALLS}, A1]}, "'messages[0].tool_calls' belongs to tu"),
        ({"messages": [U1, {**A1, "thinking": "a", "reasoning": "b"}]}, "'messages[1].reasoning' "),
        (
            {"messages": [U1, {**A1, "thinking": True}]},
            "'messages[1].thinking' is true; expected t",
        ),
        ({"messages": [U1, A1, U2]}, "'messages' has the roles [user, assistant, user]; right wo"),
        ({"prompt": "a", "completion": "b", "label": 3}, "'label' is 3; true and 1 mark a good re"),
        ({"input": "a", "preferred_output": [A1]}, "'input' holds no 'messages'"),
        ({"chosen": "4", "rejected": "5"}, "'prompt' is missing, and 'chosen' and 'rej"),
        ({"chosen": "4"}, "'prompt' is missing, and 'chosen' is text"),
        ({"prompt": "9?", "chosen": [U1, A1]}, "'prompt' is none of the user turns of 'chosen'"),
        ({"prompt": [U2], "chosen": [U1, A1]}, "'chosen' begins neither with the turns of"),
        ({"prompt": "a", "messages": [U1], "response": "b"}, "'prompt' stands beside 'messages'"),
        ({"messages": [U1, A1], "response": "b"}, "'messages' has the roles [user, assistant]"),
        ({"messages": [S, U1, A1], "system": "!"}, "'system' is given and the conversation has"),
        ({"instruction": "a", "output": "b", "history": ["x"]}, "'history[0]' is not a pair"),
        ({"instruction": "a", "output": "b", "input": 3}, "'input' is 3; expected text"),
        ({"prompt": "a", "response": "b", "source": "c"}, "'source' is not a field of an annotat"),
        ({"question": "a", "answer": "b", "id": 1.5}, "'id' is 1.5; expected text or a whole"),
        ({"question": "a", "answer": "b", "id": True}, "'id' is True; expected text or a whole"),
    ],
)
def test_rows_of_the_wrong_shape(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    source = save(tmp_path / "in.jsonl", [row])
    with pytest.raises(InputError) as caught:
        import_records(source, tmp_path / "out.jsonl")
    assert f"{source}:1: field {message}" in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_given_ids_are_kept_and_prompt_ids_are_not_ids(tmp_path: Path) -> None:
    rows = [
        {"id": "a-1", "question": "q1", "answer": "x"},
        {"id": 17, "question": "q2", "answer": "x"},
        {"id": None, "question": "q3", "answer": "x", "prompt_id": "p"},
        {"question": "q3", "answer": "y", "prompt_id": "p"},
    ]
    out = tmp_path / "out.jsonl"
    summary = import_records(save(tmp_path / "in.jsonl", rows), out)
    records = list(read_records(out, AnnotatedRecord))
    assert [record.id for record in records[:2]] == ["a-1", "17"]
    assert [r.id for r in records[2:]] == [content_id(r.messages, r.response) for r in records[2:]]
    assert summary.ignored_fields == {"prompt_id": 2}


def test_fields_without_a_place_are_counted_by_name(tmp_path: Path) -> None:
    turns = [U1, {**A1, "weight": 1, "name": "x"}]
    rows = [
        {"real": turns, "generated": [U1, A2], "score": 1.0},
        {"real": [U2, A2], "generated": [U2, A1]},
    ]
    summary = import_records(save(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    assert summary.ignored_fields == {
        "generated": 2,
        "score": 1,
        "real[].weight": 1,
        "real[].name": 1,
    }
    assert "  generated: 2 rows" in summary.lines()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "hello", "label": 1}], "unknown format; keys found: label, text. Known formats"),
        (
            [{"question": "q", "answer": "a", "messages": []}],
            "fit several formats: messages, quest",
        ),
        (
            [{"question": "q", "answer": "a"}, {"real": []}],
            "several formats: question-answer (1 rows), spin (1 rows)",
        ),
        ([{}], "unknown format; keys found: (none)"),
    ],
)
def test_unclear_shapes_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError) as caught:
        detect_format("in.jsonl", rows)
    assert message in str(caught.value)


def test_an_ambiguous_shape_can_be_named(tmp_path: Path) -> None:
    row = {"prompt": "2+2?", "completion": "4", "messages": [U1, A1]}
    source = save(tmp_path / "in.jsonl", [row])
    with pytest.raises(InputError, match="fit several formats: prompt-completion, messages"):
        import_records(source, tmp_path / "out.jsonl")
    summary = import_records(source, tmp_path / "out.jsonl", format="prompt-completion")
    assert summary.ignored_fields == {"messages": 1}
    with pytest.raises(InputError, match="unknown format 'dpo'; the formats"):
        import_records(source, tmp_path / "out.jsonl", format="dpo")


def test_a_row_of_another_format_is_a_problem_of_that_row(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": "a"} for i in range(5)]
    source = save(tmp_path / "in.jsonl", [*rows, {"input": "q", "output": "a"}, {"question": "q"}])
    with pytest.raises(InputError) as caught:
        import_records(source, tmp_path / "out.jsonl")
    assert f"{source}:6: row of the format 'input-output', not of 'question-answer'" in str(
        caught.value
    )
    assert f"{source}:7: field 'answer' is missing; a 'question-answer' row needs" in str(
        caught.value
    )
