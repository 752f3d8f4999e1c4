"""Which tokens rows are expected to emit next, and how many of them are worth a wider pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import mul

__all__ = ["Drafts"]

_RUNS = 4
"""Guesses that came true one after another: 0, 1, 2, and 3 or more are told apart."""
_TRUE, _TRIED = 7, 8
"""Of each kind, before any guess was tried: a guess for the rates to start from."""
_WIDTHS = (0, 1, 2, 4, 8, 16, 32)
_PASS, _ROW = 32, 1
"""What a pass costs besides its tokens, and for each row besides them, in tokens. Small models on a
CPU cost more (docs/design/0007-drafts.md): guesses are tried rather too seldom than too often."""
_PRICE = 1.15
"""Of a pass with guesses beside one without: they have to be kept, compared and taken back."""
_POSITIONS = 512
"""Of one pass: their logits exist at the same time."""


class Drafts:
    """Follows each row through its draft: the response of another policy to the same prompt.

    A row that leaves its draft joins it again at the token that it emitted last, in the place
    nearest to its own length. How often guesses come true is counted, apart for rows that follow
    their draft and rows that just joined it, and the width of a pass follows from that. Nothing
    looks at a clock, so that the same rows are computed together whenever they are.

    Args:
        drafts: Token ids, one sequence a row; an empty one for a row that has none.
    """

    def __init__(self, drafts: Sequence[Sequence[int]]) -> None:
        self._drafts = drafts
        self._next: list[int | None] = [0 for _ in drafts]
        self._run = [_RUNS - 1 for _ in drafts]
        self._index: list[dict[int, list[int]] | None] = [None for _ in drafts]
        self._true, self._tried = [_TRUE] * _RUNS, [_TRIED] * _RUNS

    def follow(self, row: int, emitted: Sequence[int]) -> None:
        """Take note of the token that a row emitted last."""
        place, draft = self._next[row], self._drafts[row]
        if place is not None and place < len(draft):
            run = self._run[row]
            self._tried[run] += 1
            if draft[place] == emitted[-1]:
                self._true[run] += 1
                self._run[row], self._next[row] = min(run + 1, _RUNS - 1), place + 1
                return
        self._run[row], self._next[row] = 0, self._joined(row, emitted)

    def guesses(self, rows: Sequence[int]) -> list[Sequence[int]]:
        """The tokens that each row is expected to emit next, as many as pay; maybe none at all."""
        width = self._width(rows)
        return [self._expected(row)[:width] for row in rows] if width else []

    def _expected(self, row: int) -> Sequence[int]:
        place = self._next[row]
        return () if place is None else self._drafts[row][place : place + _WIDTHS[-1]]

    def _width(self, rows: Sequence[int]) -> int:
        """Guesses a row with which a pass yields the most tokens for what it costs."""
        rows_by_kind = Counter((self._run[row], len(self._expected(row))) for row in rows)
        rates = [true / tried for true, tried in zip(self._true, self._tried, strict=True)]
        yields = [_yields(rates[run:]) for run in range(_RUNS)]

        def worth(width: int) -> float:
            tokens = sum(
                count * yields[run][min(width, known)]
                for (run, known), count in rows_by_kind.items()
            )
            cost = _PASS + len(rows) * (_ROW + 1 + width)
            return tokens / (cost * _PRICE if width else cost)

        most = _POSITIONS // len(rows) - 1
        # The first of equals: no guesses where they bring nothing.
        return max((width for width in _WIDTHS if width <= max(most, 0)), key=worth)

    def _joined(self, row: int, emitted: Sequence[int]) -> int | None:
        index = self._index[row]
        if index is None:
            index = self._index[row] = {}
            for place, token in enumerate(self._drafts[row], start=1):
                index.setdefault(token, []).append(place)
        places = index.get(emitted[-1], ())
        return min(places, key=lambda place: abs(place - len(emitted)), default=None)


def _yields(rates: Sequence[float]) -> list[float]:
    """Tokens that a pass yields of one row by the number of guesses: one is drawn in any case.

    Args:
        rates: How often the first, second, ... guess comes true; all others as the last of them.
    """
    further = [*rates, *[rates[-1]] * _WIDTHS[-1]][: _WIDTHS[-1]]
    return list(accumulate(accumulate(further, mul), initial=1.0))
