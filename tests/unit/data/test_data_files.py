"""The files that people have: tables, columns, compressed files, what `datasets` saves."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tspin.data import import_records
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, read_records

ROWS = [
    {"prompt": "2+2?", "completion": "4"},
    {"prompt": 'Say "a, b;\nc".', "completion": "a, b;\nc"},
    {"prompt": "naïve \U0001f600?", "completion": "yes\t!"},
]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def table(delimiter: str, newline: str = "\n") -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    rows = [["prompt", "completion"], *([r["prompt"], r["completion"]] for r in ROWS)]
    return "".join(delimiter.join(map(cell, row)) + newline for row in rows)


def columns() -> dict[str, dict[str, str]]:
    return {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}


FILES: dict[str, bytes | Callable[[], bytes]] = {
    "a.jsonl.gz": gzip.compress(LINES),
    "members.jsonl.gz": gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]),
    "a.jsonl.zst": lambda: zstd(LINES),
    "a.ndjson.bz2": bz2.compress(LINES),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "columns.json.gz": gzip.compress(json.dumps(columns()).encode()),
    "a.csv": table(",").encode(),
    "excel.csv": b"\xef\xbb\xbf" + table(";", "\r\n").encode(),
    "a.tsv": table("\t").encode(),
    "a.csv.zst": lambda: zstd(table(",").encode()),
    "indexed.csv": (
        ',prompt,completion\n0,2+2?,4\n1,"Say ""a, b;\nc"".","a, b;\nc"\n'
        "2,naïve \U0001f600?,yes\t!\n"
    ).encode(),
    "columns.json": json.dumps(columns(), ensure_ascii=False).encode(),
    "marked.json": b"\xef\xbb\xbf" + json.dumps(columns(), ensure_ascii=False, indent=1).encode(),
    "lists.json": json.dumps({n: [row[n] for row in ROWS] for n in ROWS[0]}).encode(),
    "index.json": json.dumps({str(i): row for i, row in enumerate(ROWS)}).encode(),
    "split.json": json.dumps(
        {"columns": [*ROWS[0]], "index": [0, 1, 2], "data": [[*row.values()] for row in ROWS]}
    ).encode(),
    "table.json": json.dumps({"schema": {"fields": []}, "data": ROWS}).encode(),
    "data.json": json.dumps({"data": ROWS}, indent=2).encode(),
    "versioned.json": json.dumps({"version": "1", "data": ROWS, "n": 3}).encode(),
    "instances.json": json.dumps({"type": "text2text", "instances": ROWS}).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_its_rows(tmp_path: Path, name: str) -> None:
    content = FILES[name]
    source, out = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(content() if callable(content) else content)
    summary = import_records(source, out)
    assert (summary.rows, summary.written, summary.format) == (3, 3, "prompt-completion")
    records = read_records(out, AnnotatedRecord)
    expected = [(row["prompt"], row["completion"]) for row in ROWS]
    assert [(record.messages[0].content, record.response) for record in records] == expected


@pytest.mark.parametrize(
    ("ending", "compress"),
    [(".gz", gzip.compress), (".zst", zstd), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_a_compressed_file_that_is_cut_off_is_refused(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    source = tmp_path / f"a.jsonl{ending}"
    whole = compress(b"".join(b'{"prompt":"%d?","completion":"a"}\n' % i for i in range(9000)))
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a whole compressed file"):
        import_records(source, tmp_path / "out.jsonl", on_error="skip")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "prompt,completion\na,b,c\n1?,1\n", r"a.csv:2: has 3 cells, the header has 2"),
        ("a.csv", 'prompt,completion\n1?,"1\n2?,2\n', r"broken table: .*cannot be told apart"),
        ("a.csv", "prompt,prompt\n1,2\n", r"a.csv:1: the header names the column 'prompt' twice"),
        ("a.csv", "1?,1\n2?,2\n", r"unknown format; keys found: 1, 1\?"),
        ("a.csv", "", "no rows in it that can be read"),
        (
            "a.json",
            '{"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c"}}',
            "differ in their rows, from row 2 on",
        ),
        ("a.json", '{"prompt": {"0": "a"}, "completion": {"5": "c"}}', "differ in their rows"),
        ("a.json", '{"prompt": ["a"], "completion": ["b"', "broken JSON"),
        ("a.json", '{"data": [{"prompt": "a"', "broken JSON"),
        (
            "a.json",
            '{"data": [{"a": 1}], "rows": [{"b": 1}]}',
            "rows stand under 'data' and 'rows'",
        ),
        (
            "a.json",
            '{\n "prompt": "a",\n "completion": "b"\n}',
            "one JSON object spread over lines",
        ),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    source = tmp_path / name
    source.write_text(content)
    with pytest.raises(InputError, match=message):
        import_records(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_cell_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(b"prompt,completion\n1?,1\n2?,\xff\n3?,3\n")
    summary = import_records(source, tmp_path / "out.jsonl", on_error="skip")
    assert (summary.written, summary.skipped) == (2, {"not UTF-8": 1})
    assert "a.csv:3: holds bytes" in str(summary.problems[0])


def test_an_empty_cell_is_absent(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("id,prompt,completion,label\n,1?,1,\nb,2?,,True\n,3?,3,False\n")
    summary = import_records(source, tmp_path / "out.jsonl", on_error="skip")
    assert (summary.written, summary.skipped) == (1, {"missing field": 1, "labelled bad": 1})


def test_jsonl_rows_are_rows_whatever_their_first_key(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"history": [["1?", "1"]], "instruction": "2?", "output": "2"},
        {"history": [], "instruction": "3?", "output": "3"},
    ]
    source = tmp_path / "a.json"
    source.write_text("\n".join(json.dumps(row) for row in rows))
    assert import_records(source, tmp_path / "out.jsonl").written == 2
    source.write_text(json.dumps({"messages": [{"role": "user", "content": "1?"}, A]}))
    assert import_records(source, tmp_path / "out.jsonl").format == "messages"


A = {"role": "assistant", "content": "1"}


def saved(folder: Path, split: str | None) -> None:
    """What `Dataset.save_to_disk` leaves."""
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file:
        rows = pa.Table.from_pylist([{**row, "prompt": f"{split} {row['prompt']}"} for row in ROWS])
        with pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows)
    (folder / "state.json").write_text(
        json.dumps({"_split": split, "_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )
    (folder / "dataset_info.json").write_text('{"features": {"prompt": {"dtype": "string"}}}')
    (folder / "cache-0123.arrow").write_bytes(b"indices")


def test_a_folder_of_save_to_disk_is_read(tmp_path: Path) -> None:
    folder, out = tmp_path / "saved", tmp_path / "out.jsonl"
    for split in ("train_sft", "test_sft"):
        saved(folder / split, split)
    (folder / "dataset_dict.json").write_text('{"splits": ["train_sft", "test_sft"]}')
    with pytest.raises(InputError, match=r"several splits \(test_sft, train_sft\)"):
        import_records(folder, out)
    assert import_records(folder, out, split="train_sft").written == 3
    [first, *_] = read_records(out, AnnotatedRecord)
    assert first.messages[0].content == "train_sft 2+2?"
    saved(tmp_path / "one", "validation")
    assert import_records(tmp_path / "one", out).written == 3
    assert import_records(tmp_path / "one", out, split="validation").written == 3
    with pytest.raises(InputError, match="splits found: validation"):
        import_records(tmp_path / "one", out, split="train")


def test_an_arrow_file_is_read_and_a_cut_one_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "a.arrow", tmp_path / "out.jsonl"
    rows = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(source), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    assert import_records(source, out).written == 3
    source.write_bytes(source.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a whole Arrow file"):
        import_records(source, tmp_path / "other.jsonl")
