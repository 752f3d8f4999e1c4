"""Finished responses on the disk, group by group, so that a killed run continues."""

from __future__ import annotations

import fcntl
import logging
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import orjson

from tspin.errors import TspinError
from tspin.generate.plan import ResponsePlan
from tspin.records.manifest import journal_path
from tspin.records.records import Response, ResponseKey

__all__ = ["Journal"]

log = logging.getLogger(__name__)

_BLOCK = 4096


class Journal:
    """One line a response, after a line with the plan's key; a blank line ends each group.

    A group counts when it is whole; what a kill or a full disk left behind the last whole one is
    cut off on opening, so that its responses are made again. Texts stay on the disk: in memory are
    only their places.

    Why groups and not single responses: rows of a batch that are decoded together may round
    differently than in a smaller batch, and a kill in the middle of a group would leave a rest
    that is batched anew. With whole groups a continued generation makes the same batches, and so
    the same bytes, as one that was never killed. A group is written and fsynced before the next
    one begins, and its blank line comes last: a process that dies in between leaves a prefix, which
    is a group without its blank line and never a short one that looks whole. The header is the
    plan's key, so that a journal of other inputs is discarded as a whole.
    """

    def __init__(self, file: FileIO, plan: ResponsePlan) -> None:
        self._file = file
        self._plan = plan
        # Where the line of each response begins; behind the header, so never at 0.
        self._starts = array("q", bytes(8 * len(plan)))
        self._count = 0
        self._end = 0

    @classmethod
    @contextmanager
    def opened(cls, out: Path, key: str, plan: ResponsePlan) -> Iterator[Journal]:
        """The journal of an output file, locked against other processes for the block.

        Args:
            out: The output; the journal stands beside it until its manifest does.
            key: Of the plan; a journal with another key is discarded.
            plan: Says which responses are asked for, and the place of each.

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
            journal = cls(file, plan)
            with _told(path):
                journal._resume(path, key)
            with _told(path):
                yield journal

    def __len__(self) -> int:
        return self._count

    def __contains__(self, place: object) -> bool:
        return isinstance(place, int) and self._starts[place] > 0

    def append(self, responses: Sequence[Response]) -> None:
        """Add a finished group; when this returns it is on the disk."""
        lines = [orjson.dumps(response.as_json()) + b"\n" for response in responses]
        at, places = self._end, [self._plan.place_of(response.key) for response in responses]
        self._write(b"".join(lines) + b"\n")
        for place, line in zip(places, lines, strict=True):
            if place is not None:
                self._note(place, at)
            at += len(line)

    def _note(self, place: int, start: int) -> None:
        self._count += not self._starts[place]
        self._starts[place] = start

    def line(self, place: int) -> bytes:
        """The line of the response at a place of the plan, its newline included."""
        start, line = self._starts[place], b""
        while b"\n" not in line:
            line += os.pread(self._file.fileno(), _BLOCK, start + len(line))
        return line[: line.index(b"\n") + 1]

    def _write(self, content: bytes) -> None:
        blob = memoryview(content)
        self._file.seek(self._end)
        while blob:
            blob = blob[self._file.write(blob) :]
        os.fsync(self._file.fileno())
        self._end += len(content)

    def _resume(self, path: Path, key: str) -> None:
        header = orjson.dumps({"key": key}) + b"\n"
        with path.open("rb") as lines:
            first = lines.readline()
            if first == header:
                self._end = len(header)
                self._read_groups(lines)
            elif first:
                log.warning("%s: was made from other inputs and is discarded", path)
        self._file.truncate(self._end)
        if not self._end:
            self._write(header)

    def _read_groups(self, lines: Iterable[bytes]) -> None:
        at, group = self._end, dict[int, int]()
        for line in lines:
            if line == b"\n":
                for whole, start in group.items():
                    self._note(whole, start)
                self._end, group = at + 1, {}
            else:
                key = _key(line)
                place = None if key is None else self._plan.place_of(key)
                if place is None:
                    return
                group[place] = at
            at += len(line)


def _key(line: bytes) -> ResponseKey | None:
    """Id and sample of a whole line with a response; None for anything else."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict):
        return None
    identity, sample = row.get("id"), row.get("sample", 0)
    return (identity, sample) if isinstance(identity, str) and isinstance(sample, int) else None


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
