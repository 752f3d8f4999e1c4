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


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"a": 1}\n')


ULTRACHAT = [f"data/{name}-00000-of-00001-ab12.jsonl" for name in ("train_sft", "train_gen")]
ULTRACHAT += [f"data/{name}-00000-of-00001-ab12.jsonl" for name in ("test_sft", "test_gen")]


def test_a_split_is_what_the_files_say(tmp_path: Path) -> None:
    touch(tmp_path, *ULTRACHAT, "data/train_sft-00001-of-00002.jsonl")
    found = find_sources(tmp_path, "train_sft")
    assert [file.path.name for file in found.files] == [
        "train_sft-00000-of-00001-ab12.jsonl",
        "train_sft-00001-of-00002.jsonl",
    ]
    listed = "Splits found: test_gen, test_sft, train_gen, train_sft"
    with pytest.raises(InputError, match=f"may be any of train_gen, train_sft; .*{listed}"):
        find_sources(tmp_path, "train")
    with pytest.raises(InputError, match="may be any of test_sft, train_sft"):
        find_sources(tmp_path, "sft")
    with pytest.raises(InputError, match=r"several splits \(test_gen, test_sft, train_gen, train"):
        find_sources(tmp_path)


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (["gsm8k_train.jsonl", "gsm8k_test.jsonl"], "train", ["gsm8k_train.jsonl"]),
        (["train.jsonl.gz", "dev.jsonl"], "validation", ["dev.jsonl"]),
        (["train_sft/0.jsonl", "train_sft/1.jsonl", "test_sft/0.jsonl"], "train", ["0", "1"]),
        (["train.jsonl", "train_extra.jsonl"], "train", ["train.jsonl"]),
        (["train1.jsonl", "train2.jsonl"], None, ["train1.jsonl", "train2.jsonl"]),
        (["default/test/0000.jsonl", "default/train/0000.jsonl"], "test", ["0000.jsonl"]),
        (["alice.jsonl", "bob.jsonl"], None, ["alice.jsonl", "bob.jsonl"]),
    ],
)
def test_a_word_is_enough_where_one_split_has_it(
    tmp_path: Path, names: list[str], split: str | None, expected: list[str]
) -> None:
    for name in names:
        touch(tmp_path, name)
    if names[0].endswith(".gz"):
        (tmp_path / names[0]).write_bytes(b"")
    found = [file.path for file in find_sources(tmp_path, split).files]
    assert len(found) == len(expected)
    assert all(path.name.startswith(start) for path, start in zip(found, expected, strict=True))
    assert len({path.parent for path in found}) == 1


def test_two_configurations_of_a_data_set_are_not_mixed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/train-00000-of-00001.jsonl" for name in ("main", "socratic")))
    with pytest.raises(InputError, match=r"main and in .*socratic, two configurations"):
        find_sources(tmp_path, "train")
    assert len(find_sources(tmp_path / "main", "train").files) == 1


def test_metadata_of_the_hubs_folders_are_no_rows(tmp_path: Path) -> None:
    metadata = ["dataset_infos.json", "data/dataset_info.json", "state.json", "dataset_dict.json"]
    metadata += [".cache/huggingface/download/train.jsonl", ".git/x.json", "data/._train.jsonl"]
    metadata += ["data/train.jsonl.manifest.json"]
    touch(tmp_path, "data/train-00000-of-00001.jsonl", *metadata)
    found = find_sources(tmp_path)
    assert [file.path.name for file in found.files] == ["train-00000-of-00001.jsonl"]
    assert {path.relative_to(tmp_path).as_posix() for path in found.ignored} == {*metadata}
