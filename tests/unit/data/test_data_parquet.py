"""Rows of parquet files, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tspin.data.rows.problems import Problem
from tspin.data.rows.reading import read_rows
from tspin.data.rows.row import RawRow
from tspin.data.rows.sources import find_sources
from tspin.errors import InputError


def read(path: Path) -> list[RawRow | Problem]:
    (file,) = find_sources(path).files
    return list(read_rows(file))


def test_parquet_rows_have_numbers_over_batches_and_null_is_kept(tmp_path: Path) -> None:
    rows = [{"a": f"text {i}", "b": None if i % 2 else [{"c": i}]} for i in range(1100)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=300)
    items = read(path)
    assert [item.fields for item in items if isinstance(item, RawRow)] == rows
    assert [(item.place.line, item.place.row) for item in items] == [
        (None, i + 1) for i in range(1100)
    ]


def test_parquet_text_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"caf\xe9", b"fine"]).cast(pa.string(), safe=False)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": raw}), path)
    first, second, third = read(path)
    assert isinstance(second, Problem)
    assert str(second).startswith(f"{path} (row 2): byte 0xe9 in a text column is not UTF-8")
    assert [item.fields for item in (first, third) if isinstance(item, RawRow)] == [
        {"a": "good"},
        {"a": "fine"},
    ]


@pytest.mark.parametrize("keep", [0, 4, 200, -9])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": ["x" * 50] * 100}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"rows.parquet: not a whole parquet file"):
        read(path)
