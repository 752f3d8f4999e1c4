"""Finished responses on the disk, batch by batch, so that a killed run continues."""

from __future__ import annotations

import fcntl
import logging
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import orjson

from tspin.errors import TspinError
from tspin.records import Response

__all__ = ["Journal", "journal_path"]

log = logging.getLogger(__name__)


class Journal:
    """One line a response, in the order of a plan, after a line with the plan's key.

    A batch counts when all its lines are whole; what a kill or a full disk left behind them is cut
    off on opening, so that its batch is done again. Texts stay on the disk: in memory are only
    8 bytes a line.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._ends = array("Q")

    @classmethod
    @contextmanager
    def opened(cls, out: Path, key: str, ids: Sequence[str], batch_size: int) -> Iterator[Journal]:
        """The journal of an output file, locked against other processes for the block.

        Args:
            out: The output; the journal is `.<name>.partial.jsonl` beside it.
            key: Of the plan; a journal with another key is discarded.
            ids: In the order of the plan.
            batch_size: Lines a batch.

        Raises:
            TspinError: another process is at the same output, or the disk is full.
        """
        path = journal_path(out)
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: after a failed write nothing is left over to be written on closing.
            file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
        with file:
            _lock(file, out)
            journal = cls(file)
            with _told(path):
                journal._resume(path, key, ids, batch_size)
            with _told(path):
                yield journal

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, responses: Sequence[Response]) -> None:
        """Add a finished batch; when this returns it is on the disk."""
        self._write([orjson.dumps(response.as_json()) for response in responses])

    def line(self, place: int) -> bytes:
        """The line of one place in the plan's order."""
        start = self._ends[place]
        return os.pread(self._file.fileno(), self._ends[place + 1] - start, start)

    def _write(self, lines: Sequence[bytes]) -> None:
        blob = memoryview(b"".join(line + b"\n" for line in lines))
        self._file.seek(self._ends[-1] if self._ends else 0)
        while blob:
            blob = blob[self._file.write(blob) :]
        os.fsync(self._file.fileno())
        for line in lines:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(line) + 1)

    def _resume(self, path: Path, key: str, ids: Sequence[str], batch_size: int) -> None:
        header = orjson.dumps({"key": key})
        with path.open("rb") as lines:
            first = lines.readline()
            if first == header + b"\n":
                self._ends.append(len(first))
                for wanted, line in zip(ids, lines, strict=False):
                    if not _is_response(line, wanted):
                        break
                    self._ends.append(self._ends[-1] + len(line))
            elif first:
                log.warning("%s: was made from other inputs and is discarded", path)
        if self._ends and len(self) < len(ids):
            del self._ends[1 + len(self) // batch_size * batch_size :]
        self._file.truncate(self._ends[-1] if self._ends else 0)
        if not self._ends:
            self._write([header])


def journal_path(out: Path) -> Path:
    """Where the journal of an output file stands."""
    return out.with_name(f".{out.name}.partial.jsonl")


def _is_response(line: bytes, wanted: str) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("id") == wanted


def _lock(file: FileIO, out: Path) -> None:
    try:
        # The kernel lets go of it when the process dies, however it dies.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TspinError(f"{out}: another process is making it right now") from None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TspinError(
            f"{error.filename or path}: cannot be written: {error.strerror or error}. Finished "
            f"responses are kept in {path}; once there is room, the same command continues"
        ) from None
