"""The rows of Arrow's files and of parquet. The one owner of pyarrow, loaded only when needed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tspin.data.rows.problems import Flaw, Place, Problem, Reason
from tspin.data.rows.row import RawRow
from tspin.errors import InputError

__all__ = ["open_zstd", "read_arrow", "read_batches", "read_parquet"]

_BATCH_ROWS = 512
_BUFFER_BYTES = 1 << 20
_FILE_MARK = b"ARROW1"


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
                yield from read_batches(path, [batch], number)
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise InputError(f"{path}: not a whole parquet file{after}: {error}") from None


def read_arrow(path: Path) -> Iterator[RawRow | Problem]:
    """Yield the rows of an Arrow file, or stream as `save_to_disk` of `datasets` writes it.

    Raises:
        InputError: it is neither, or not whole.
    """
    try:
        with pa.OSFile(str(path), "rb") as file:
            mark = file.read(len(_FILE_MARK))
            file.seek(0)
            if mark == _FILE_MARK:
                reader = pa.ipc.open_file(file)
                batches = (reader.get_batch(at) for at in range(reader.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(file))
            yield from read_batches(path, batches)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a whole Arrow file: {error}") from None


def read_batches(path: Path, batches: Any, before: int = 0) -> Iterator[RawRow | Problem]:
    """Yield the rows of record batches or tables.

    Args:
        path: Where they come from, for messages.
        batches: Of pyarrow's.
        before: How many rows came before them.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            piece = batch.slice(start, _BATCH_ROWS)
            yield from _rows(path, before, piece)
            before += piece.num_rows


def open_zstd(path: Path) -> io.RawIOBase:
    """A file that Zstandard compressed, for reading: Python has no reader of its own before 3.14.

    Raises:
        OSError: it cannot be opened.
    """
    return _Stream(pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd"))


class _Stream(io.RawIOBase):
    """A stream of pyarrow's whose errors are those of files."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        try:
            data = self._stream.read(len(buffer))
        except pa.ArrowException as error:
            raise OSError(str(error)) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file too."""
        self._stream.close()
        super().close()


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
