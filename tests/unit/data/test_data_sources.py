"""Which files are read: kinds by content, folders, splits."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tspin.data.rows.sources import SourceFile, find_sources
from tspin.errors import InputError


def test_a_file_without_a_known_ending_is_recognised_by_its_content(tmp_path: Path) -> None:
    parquet = tmp_path / "a"
    pq.write_table(pa.table({"a": [1]}), parquet)
    lines, array, text = tmp_path / "b.txt", tmp_path / "c", tmp_path / "d.md"
    lines.write_text('{"a": 1}\n')
    array.write_text('[{"a": 1}]')
    text.write_text("# Read me\n")
    kinds = [find_sources(path).files[0].kind for path in (parquet, lines, array)]
    assert kinds == ["parquet", "lines", "array"]
    with pytest.raises(InputError, match=r"d.md: not a file of rows; expected .jsonl"):
        find_sources(text)


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b/train-1.jsonl", "a/train-0.jsonl", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"a": 1}\n')
    found = find_sources(tmp_path)
    assert found.files == (
        SourceFile(tmp_path / "a/train-0.jsonl", "lines"),
        SourceFile(tmp_path / "b/train-1.jsonl", "lines"),
    )
    assert found.ignored == (tmp_path / "README.md",)


def test_a_folder_with_several_splits_needs_one_named(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"):
        (tmp_path / name).write_text('{"a": 1}\n')
    with pytest.raises(InputError, match=r"holds several splits \(test, train\)"):
        find_sources(tmp_path)
    found = find_sources(tmp_path, "train")
    assert [file.path.name for file in found.files] == ["train-00000-of-00001.jsonl"]
    assert [path.name for path in found.ignored] == ["test-00000-of-00001.jsonl"]
    with pytest.raises(InputError, match=r"no files of the split 'validation'; splits found: test"):
        find_sources(tmp_path, "validation")


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_sources(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="files in this folder"):
        find_sources(tmp_path)
