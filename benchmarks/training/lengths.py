"""Length profiles: how many tokens the prompts and responses of a benchmark's triplets have."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["PROFILES", "Profile", "TripletLengths", "padded_positions"]

MAX_LENGTH = 2048
"""Tokens of a prompt and one response together, as in the papers."""


@dataclass(frozen=True)
class TripletLengths:
    """Tokens of one prompt and of its responses y, y' and y0, each with its end token."""

    prompt: int
    responses: tuple[int, int, int]

    @property
    def packed(self) -> int:
        """Tokens in a packed row: the prompt once, each response without its last token."""
        return self.prompt + sum(response - 1 for response in self.responses)


def constant(prompt: int, response: int) -> Callable[[int, int], list[TripletLengths]]:
    """A profile in which every triplet has the same lengths: nothing to pad anywhere."""

    def make(count: int, seed: int) -> list[TripletLengths]:
        return [TripletLengths(prompt, (response,) * 3)] * count

    return make


def long_tailed(
    prompt: int,
    response: int,
    *,
    prompt_sigma: float,
    response_sigma: float,
    limit: int = MAX_LENGTH,
) -> Callable[[int, int], list[TripletLengths]]:
    """A profile of log-normal lengths with these means in tokens, all four independent.

    The quantiles of the distribution, shuffled: a few triplets already have its mean and tail.

    Args:
        prompt: Mean of the prompts.
        response: Mean of the responses.
        prompt_sigma: Standard deviation of the logarithm of the prompts' lengths.
        response_sigma: The same for responses.
        limit: Longest prompt and response together; what is beyond is cut off.
    """

    def make(count: int, seed: int) -> list[TripletLengths]:
        draw = random.Random(seed)
        prompts = _quantiles(prompt, prompt_sigma, count, draw)
        columns = [_quantiles(response, response_sigma, count, draw) for _ in range(3)]
        return [
            _cut(TripletLengths(length, (a, b, c)), limit)
            for length, a, b, c in zip(prompts, *columns, strict=True)
        ]

    return make


def _quantiles(mean: float, sigma: float, count: int, draw: random.Random) -> list[int]:
    normal = NormalDist(math.log(mean) - sigma**2 / 2, sigma)
    lengths = [max(2, round(math.exp(normal.inv_cdf((i + 0.5) / count)))) for i in range(count)]
    draw.shuffle(lengths)
    return lengths


def _cut(lengths: TripletLengths, limit: int) -> TripletLengths:
    prompt = min(lengths.prompt, limit * 3 // 4)
    a, b, c = (min(response, limit - prompt) for response in lengths.responses)
    return TripletLengths(prompt, (a, b, c))


@dataclass(frozen=True)
class Profile:
    """A distribution of lengths."""

    make: Callable[[int, int], list[TripletLengths]]
    """From the number of triplets and a seed."""
    triplets: int
    """At least so many in one training: enough to have all lengths, and seconds to measure."""


PROFILES = {
    "ultrachat-like": Profile(
        long_tailed(200, 300, prompt_sigma=1.0, response_sigma=0.6), triplets=8
    ),
    "long-prompt": Profile(
        long_tailed(1500, 150, prompt_sigma=0.2, response_sigma=0.2, limit=4096), triplets=4
    ),
    "short": Profile(long_tailed(50, 50, prompt_sigma=0.2, response_sigma=0.2), triplets=16),
    "equal": Profile(constant(200, 300), triplets=4),
    "long-prompt-equal": Profile(constant(1500, 150), triplets=4),
}


def padded_positions(lengths: list[TripletLengths], batch: int) -> tuple[int, int]:
    """Positions that padded pairs (y and y') occupy in batches of this many, and real tokens."""
    positions = tokens = 0
    for start in range(0, len(lengths), batch):
        rows = [
            row.prompt + response
            for row in lengths[start : start + batch]
            for response in row.responses[:2]
        ]
        positions += len(rows) * max(rows)
        tokens += sum(rows)
    return positions, tokens
