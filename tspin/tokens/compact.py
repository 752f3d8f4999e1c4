"""Many small values in few large buffers.

A string or an array of its own takes 50 to 120 bytes besides what is in it, and an entry of a
dictionary about as much. One for each record of a large file is most of a process's memory.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Places", "Ragged", "Texts"]


class Ragged:
    """Sequences of integers of unlike length, one behind the other in one buffer.

    They take 8 bytes each besides their items. All are added before the first is read: what is
    read are views of the buffer, and while there are any it cannot grow.

    Example:
        >>> sequences = Ragged("i")
        >>> sequences.append([5, 6, 2])
        >>> sequences.append([7])
        >>> sequences[1].tolist(), sequences.lengths().tolist()
        ([7], [3, 1])
    """

    def __init__(self, typecode: str) -> None:
        """Begin without sequences; `typecode` is the items', as `array.array` names it."""
        self._items = array(typecode)
        self._ends = array("q", [0])
        self._view: npt.NDArray[Any] | None = None

    def append(self, items: Iterable[int]) -> None:
        """Add a sequence."""
        self._items.extend(items)
        self._ends.append(len(self._items))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """A read-only view; `index` from 0."""
        if self._view is None:
            self._view = np.frombuffer(memoryview(self._items).toreadonly(), self._items.typecode)
        return self._view[self._ends[index] : self._ends[index + 1]]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Items of each sequence, shape (sequences,)."""
        ends = np.frombuffer(self._ends, np.int64)
        return ends[1:] - ends[:-1]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(len(part) * part.itemsize for part in (self._items, self._ends))


class Texts:
    """Strings, as UTF-8 in one buffer: 8 bytes each besides their characters.

    Example:
        >>> texts = Texts()
        >>> texts.append("süß")
        >>> texts[0], len(texts)
        ('süß', 1)
    """

    def __init__(self) -> None:
        """Begin without strings."""
        self._texts = Ragged("B")

    def append(self, text: str) -> None:
        """Add a string, before the first is read."""
        self._texts.append(text.encode())

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> str:
        """A string; `index` from 0."""
        return self._texts[index].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self._texts.nbytes


class Places:
    """Where in an order something may stand: 16 bytes an entry, whatever it is.

    Only a hash of each is kept, so that what stands at a place has to be compared with what was
    looked for. Entries are looked up once all are there.

    Example:
        >>> places = Places(["a", "b", "a"])
        >>> places.of("a"), places.of("c")
        ([0, 2], [])
    """

    def __init__(self, entries: Iterable[Hashable]) -> None:
        """Hash the entries, in their order."""
        hashes = np.fromiter(map(hash, entries), np.int64)
        order = np.argsort(hashes, kind="stable")
        self._hashes = array("q", hashes[order].tobytes())
        self._places = array("q", order.tobytes())

    def of(self, entry: Hashable) -> list[int]:
        """Places at which it may stand, the first one first; mostly one, and never one too few."""
        sought = hash(entry)
        places = []
        at = bisect_left(self._hashes, sought)
        while at < len(self._hashes) and self._hashes[at] == sought:
            places.append(self._places[at])
            at += 1
        return places

    def repeated(self) -> list[int]:
        """Places of entries with a hash that an earlier entry has."""
        hashes = np.frombuffer(self._hashes, np.int64)
        after = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        return sorted(self._places[at] for at in after.tolist())

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(len(part) * part.itemsize for part in (self._hashes, self._places))
