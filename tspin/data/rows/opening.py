"""The bytes of a file, whether or not it is compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from tspin.errors import InputError

__all__ = ["COMPRESSIONS", "inner_suffix", "open_bytes"]

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")


def inner_suffix(path: Path) -> str:
    """The ending that says what a file holds: of `a.jsonl.gz` it is `.jsonl`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def open_bytes(path: Path, start: int = 0) -> Iterator[IO[bytes]]:
    """Open a file for reading what it holds, from a byte of that.

    Raises:
        InputError: it cannot be read, or its compression is broken.
    """
    try:
        with _opened(path) as file:
            if start and path.suffix.lower() not in COMPRESSIONS:
                file.seek(start)
            while start and path.suffix.lower() in COMPRESSIONS:
                start -= len(file.read(min(start, 1 << 20))) or start
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a whole compressed file: {error}") from None
    except OSError as error:
        reason = error.strerror or f"not a whole compressed file: {error}"
        raise InputError(f"{path}: cannot be read: {reason}") from None


def _opened(path: Path) -> IO[bytes]:
    ending = path.suffix.lower()
    if ending == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if ending == ".bz2":
        return cast(IO[bytes], bz2.open(path, "rb"))
    if ending == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    if ending == ".zst":
        from tspin.data.rows.arrow import open_zstd

        return io.BufferedReader(cast(Any, open_zstd(path)), 1 << 20)
    return path.open("rb")
