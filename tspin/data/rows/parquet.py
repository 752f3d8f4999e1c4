"""The rows of a parquet file. The one owner of pyarrow, which is loaded only when needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tspin.data.rows.problems import Flaw, Place, Problem, Reason
from tspin.data.rows.row import RawRow
from tspin.errors import InputError

__all__ = ["read_parquet"]

_BATCH_ROWS = 512
_BUFFER_BYTES = 1 << 20


def read_parquet(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the rows of a parquet file with their 1-based numbers; see `read_rows`.

    Raises:
        InputError: it is not a whole parquet file.
    """
    number = 0
    try:
        # Buffered: without it a whole column of a row group would be read at once.
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                yield from _rows(path, number, batch)
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise InputError(f"{path}: not a whole parquet file{after}: {error}") from None


def _rows(path: Path, before: int, batch: Any) -> Iterator[RawRow | Problem]:
    try:
        values = batch.to_pylist()
    except (UnicodeDecodeError, pa.ArrowException, ValueError, OverflowError):
        values = [None] * batch.num_rows  # One bad value spoils the batch: row by row then.
    for index, fields in enumerate(values):
        place = Place(path, None, before + index + 1)
        yield RawRow(place, fields) if fields is not None else _row(place, batch.slice(index, 1))


def _row(place: Place, row: Any) -> RawRow | Problem:
    try:
        return RawRow(place, row.to_pylist()[0])
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        message = f"byte 0x{byte:02x} in a text column is not UTF-8; write the column as UTF-8"
        return Problem(place, Flaw(Reason.NOT_UTF8, None, message))
    except (pa.ArrowException, ValueError, OverflowError) as error:
        message = f"a value cannot be read: {error}"
        return Problem(place, Flaw(Reason.WRONG_TYPE, None, message))
