"""Rows that are computed together: their keys and values, and the logits of the last pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any, cast

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

__all__ = ["Batch"]

_WORTH = 64
"""Prompt tokens that must be saved for the shared beginning to get a forward pass of its own."""
_HOLES = 16
"""Tokens at least that no row needs before the rest is moved together, or an eighth of all."""


@dataclass
class Batch:
    """Rows that are being continued: keys and values, what of them is padding, the last logits."""

    model: PreTrainedModel
    cache: DynamicCache
    mask: torch.Tensor
    """(rows, tokens so far), 0 for padding and for guesses that were wrong."""
    logits: torch.Tensor
    """(rows, 1 + guesses, vocabulary), float32: after each row's last token, and after each guess
    behind it. What stands there for a row with fewer guesses than others means nothing."""
    guesses: list[Sequence[int]]
    """By row."""

    @classmethod
    def of(
        cls, model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], pad_token_id: int
    ) -> Batch:
        """Run the prompts through the model, what all of them begin with only once.

        Args:
            model: In evaluation mode, on its device.
            prompts: Token ids, at least one each.
            pad_token_id: Stands where a prompt is shorter; it is never looked at.
        """
        device = model.device
        cache = DynamicCache(config=model.config)
        shared = _shared(prompts) if _is_plain(cache) else 0
        if shared:
            first = torch.tensor([prompts[0][:shared]], device=device)
            _forward(model, first, torch.ones_like(first), cache)
            cache.batch_repeat_interleave(len(prompts))
        rest = max(map(len, prompts)) - shared
        ids = torch.full((len(prompts), rest), pad_token_id)
        mask = torch.ones(len(prompts), shared + rest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            padding = rest - (len(prompt) - shared)
            ids[row, padding:] = torch.tensor(prompt[shared:])
            mask[row, shared : shared + padding] = 0
        mask = mask.to(device)
        logits = _forward(model, ids.to(device), mask, cache)
        return cls(model, cache, mask, logits, [()] * len(prompts))

    @property
    def takes_more(self) -> bool:
        """Whether rows of another length can join."""
        return _is_plain(self.cache)

    @property
    def takes_guesses(self) -> bool:
        """Whether tokens can be taken back: positions must not count what the mask hides."""
        return _is_plain(self.cache) and "position_ids" in _parameters(type(self.model).forward)

    def joined(self, other: Batch) -> Batch:
        """Both batches as one, the shorter padded on the left."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        for mine, entering in zip(_layers(self.cache), _layers(other.cache), strict=True):
            mine.keys = _stacked([mine.keys, entering.keys], length)
            mine.values = _stacked([mine.values, entering.values], length)
        masks = [self.mask[..., None], other.mask[..., None]]
        mask = _stacked(masks, length)[..., 0]
        positions = max(self.logits.shape[1], other.logits.shape[1])
        logits = [
            pad(part, (0, 0, 0, positions - part.shape[1])) for part in (self.logits, other.logits)
        ]
        guesses = self.guesses + other.guesses
        return Batch(self.model, self.cache, mask, torch.cat(logits), guesses)

    def kept(self, places: Sequence[int]) -> Batch:
        """These rows only, without what is padding in all of them on the left."""
        index = torch.tensor(places, device=self.mask.device)
        mask = self.mask[index]
        self.cache.reorder_cache(cast(torch.LongTensor, index))
        if self.takes_more and (start := int(mask.any(dim=0).long().argmax())):
            mask = mask[:, start:]
            for layer in _layers(self.cache):
                layer.keys, layer.values = layer.keys[..., start:, :], layer.values[..., start:, :]
        guesses = [self.guesses[place] for place in places]
        return Batch(self.model, self.cache, mask, self.logits[index], guesses)

    def step(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]] = ()) -> None:
        """Append a token to each row, and behind it what the row is guessed to go on with."""
        self.guesses = list(guesses) or [()] * len(tokens)
        width = 1 + max(map(len, self.guesses))
        rows = [[token, *more] for token, more in zip(tokens, self.guesses, strict=True)]
        # The pad token may be any: masks hide it, and nobody looks at its logits.
        ids = torch.tensor([row + row[:1] * (width - len(row)) for row in rows])
        fed = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        self.mask = torch.cat([self.mask, fed.to(self.mask)], dim=1)
        device = self.mask.device
        self.logits = _forward(self.model, ids.to(device), self.mask, self.cache, width)

    def accept(self, counts: Sequence[int]) -> None:
        """Hide all guesses of each row but the first ones, `counts` of them, which came true."""
        if not any(len(row) > count for row, count in zip(self.guesses, counts, strict=True)):
            return
        width = self.logits.shape[1] - 1
        at = torch.arange(width)
        known = torch.tensor([len(row) for row in self.guesses])
        wrong = (at >= torch.tensor(counts)[:, None]) & (at < known[:, None])
        self.mask[:, -width:].masked_fill_(wrong.to(self.mask.device), 0)
        self._close_holes()

    def _close_holes(self) -> None:
        """Move each row's tokens together on the right, where that makes the cache much shorter."""
        length, needed = self.mask.shape[1], int(self.mask.sum(dim=1).max())
        if length - needed <= max(_HOLES, length // 8):
            return
        # Of 0 and 1 a stable order has the padding first, and then the tokens as they came.
        order = self.mask.argsort(dim=1, stable=True)[:, -needed:]
        self.mask = self.mask.gather(1, order)
        for layer in _layers(self.cache):
            layer.keys, layer.values = (
                part.gather(2, order[:, None, :, None].expand(-1, part.shape[1], -1, part.shape[3]))
                for part in (layer.keys, layer.values)
            )


def _stacked(parts: Sequence[torch.Tensor], length: int) -> torch.Tensor:
    """Tensors (rows, ..., tokens, width) on top of each other, padded on the left to a length."""
    padded = [pad(part, (0, 0, length - part.shape[-2], 0)) for part in parts]
    return torch.cat(padded)


def _forward(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    cache: DynamicCache,
    count: int = 1,
) -> torch.Tensor:
    """Logits (rows, count, vocabulary) after each of the last `ids`, which join the cache."""
    parameters = _parameters(type(model).forward)
    extra: dict[str, Any] = {}
    if "position_ids" in parameters:
        # Padding counts for nothing, wherever it stands.
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        extra["position_ids"] = positions[:, -ids.shape[1] :]
    if "logits_to_keep" in parameters:
        extra["logits_to_keep"] = count
    output = model(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra
    )
    logits: torch.Tensor = output.logits[:, -count:].float()
    return logits


@cache
def _parameters(forward: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(forward).parameters


def _layers(cache: DynamicCache) -> list[Any]:
    """Layers with keys and values of (rows, heads, tokens, width) each."""
    return list(cache.layers)


def _is_plain(cache: DynamicCache) -> bool:
    # A sliding window counts padding, which then stands between the beginning and the rest, and
    # a recurrent state cannot tell it from text.
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, if it pays to treat them apart; always some rest."""
    # What the first and the last in order begin with, all between them begin with.
    ends = zip(min(prompts), max(prompts), strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    length = min(common, min(map(len, prompts)) - 1)
    return length if length * (len(prompts) - 1) >= _WORTH else 0
