"""Which tokens of a packed row see which: prompts, each with the responses that branch off it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["Tree", "TreeLayout", "Varlen"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Tree:
    """One prompt and its responses, as ranges of the row."""

    prompt: slice
    responses: tuple[slice, ...]
    """One after the other, directly behind the prompt; none of them empty."""

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and of all responses."""
        return self.stop - int(self.prompt.start)

    @property
    def stop(self) -> int:
        """Where the next tree begins."""
        return int(self.responses[-1].stop if self.responses else self.prompt.stop)

    @property
    def context(self) -> int:
        """Tokens of the prompt and the longest response: how far a token may look back."""
        longest = max((_length(response) for response in self.responses), default=0)
        return _length(self.prompt) + longest


@dataclass(frozen=True)
class Varlen:
    """What variable-length attention takes: N sequences, each with its own queries and keys.

    Sequence n has the queries `cu_queries[n]` to `cu_queries[n + 1]` of the row as it is, and the
    keys `cu_keys[n]` to `cu_keys[n + 1]` of the row's keys gathered by `keys`. Its last query
    sees all its keys, the one before all but the last, and so on.
    """

    keys: Tensor
    """(K,) int64, positions in the row: a prompt's once for itself and for each response."""
    cu_queries: Tensor
    """(N + 1,) int32."""
    cu_keys: Tensor
    """(N + 1,) int32."""
    longest_queries: int
    longest_keys: int


class TreeLayout:
    """The trees of one packed row.

    A plain object, not a dataclass: wrappers of distributed training take those apart.

    Attributes:
        trees: In the order of the row.
        calls: How many layers have attended by this layout.
    """

    def __init__(self, lengths: Sequence[tuple[int, Sequence[int]]]) -> None:
        """From the tokens of each prompt and of each of its responses; empty ones are left out."""
        self.trees = tuple(_trees(lengths))
        self.calls = 0
        self._made: dict[object, Any] = {}

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return self.trees[-1].stop

    @property
    def context(self) -> int:
        """The farthest that any token may look back, itself included, in tokens."""
        return max(tree.context for tree in self.trees)

    def positions(self) -> list[int]:
        """Of each token in its sequence of prompt and response, from 0."""
        numbers: list[int] = []
        for tree in self.trees:
            prompt = _length(tree.prompt)
            numbers += range(prompt)
            for response in tree.responses:
                numbers += range(prompt, prompt + _length(response))
        return numbers

    def varlen(self, device: torch.device) -> Varlen:
        """The layout for variable-length attention."""
        return self.once(device, lambda: _as_varlen(self.trees, device))

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """What `make` returns, which all layers of a forward pass share."""
        if key not in self._made:
            self._made[key] = make()
        layout: Made = self._made[key]
        return layout

    def marks(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """For each token its tree, its branch (0 for a prompt) and its position; (T,) int32."""
        trees: list[int] = []
        branches: list[int] = []
        for number, tree in enumerate(self.trees):
            trees += [number] * tree.tokens
            branches += [0] * _length(tree.prompt)
            for branch, response in enumerate(tree.responses, start=1):
                branches += [branch] * _length(response)
        values = torch.tensor([trees, branches, self.positions()], dtype=torch.int32)
        tree_T, branch_T, position_T = values.to(device)
        return tree_T, branch_T, position_T


def _trees(lengths: Sequence[tuple[int, Sequence[int]]]) -> Iterator[Tree]:
    start = 0
    for prompt, responses in lengths:
        bounds = accumulate((prompt, *(length for length in responses if length)), initial=start)
        first, *others = (slice(begin, end) for begin, end in pairwise(bounds))
        yield Tree(first, tuple(others))
        start = (others or [first])[-1].stop


def _as_varlen(trees: Sequence[Tree], device: torch.device) -> Varlen:
    keys: list[int] = []
    queries: list[int] = []
    key_counts: list[int] = []
    for tree in trees:
        prompt = range(tree.prompt.start, tree.prompt.stop)
        queries.append(len(prompt))
        key_counts.append(len(prompt))
        keys += prompt
        for response in tree.responses:
            own = range(response.start, response.stop)
            queries.append(len(own))
            key_counts.append(len(prompt) + len(own))
            keys += [*prompt, *own]
    return Varlen(
        keys=torch.tensor(keys, device=device),
        cu_queries=_cumulative(queries, device),
        cu_keys=_cumulative(key_counts, device),
        longest_queries=max(queries),
        longest_keys=max(key_counts),
    )


def _cumulative(counts: list[int], device: torch.device) -> Tensor:
    return torch.tensor([*accumulate(counts, initial=0)], dtype=torch.int32, device=device)


def _length(part: slice) -> int:
    return int(part.stop - part.start)
