"""Decoding without wasted work: a shared beginning once, ended rows replaced by waiting ones."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tspin.engines.sampling import RowSampler

__all__ = ["decode"]

_FREE = 4
"""A part of the width: so many rows must have ended before waiting ones take over together."""
_WORTH = 64
"""Prompt tokens that must be saved for the shared beginning to get a forward pass of its own."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    width: int,
    pad_token_id: int,
    sampler: RowSampler,
    ended: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """Continue prompts token by token, some at a time; where a row has ended another takes over.

    Which rows are computed together depends on these arguments alone.

    Args:
        model: In evaluation mode, on its device.
        prompts: Token ids, at least one each.
        width: Rows at a time.
        pad_token_id: Stands where a prompt is shorter; it is never looked at.
        sampler: Draws the tokens; one row a prompt.
        ended: Whether a row has ended, from the tokens that it has emitted.

    Returns:
        What each row emitted, the token that ended it included.
    """
    emitted: list[list[int]] = [[] for _ in prompts]
    waiting, alive = deque(range(len(prompts))), list[int]()
    batch: _Batch | None = None
    while waiting or alive:
        free = width - len(alive)
        if batch is None or (waiting and batch.takes_more and free >= max(1, width // _FREE)):
            joining = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            entering = _Batch.of(model, [prompts[row] for row in joining], pad_token_id)
            batch = entering if batch is None else batch.joined(entering)
            alive += joining
        tokens = sampler.draw(batch.logits, alive)
        for row, token in zip(alive, tokens.tolist(), strict=True):
            emitted[row].append(token)
        left = [place for place, row in enumerate(alive) if not ended(emitted[row])]
        if len(left) < len(alive):
            alive, tokens = [alive[place] for place in left], tokens[left]
            batch = batch.kept(left) if left else None
        if batch is not None:
            batch.step(tokens)
    return emitted


@dataclass
class _Batch:
    """Rows that are being continued: keys and values, what of them is padding, the last logits."""

    model: PreTrainedModel
    cache: DynamicCache
    mask: torch.Tensor
    """(rows, tokens so far), 0 for padding."""
    logits: torch.Tensor
    """(rows, vocabulary), float32."""

    @classmethod
    def of(
        cls, model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], pad_token_id: int
    ) -> _Batch:
        """Run the prompts through the model, what all of them begin with only once."""
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
        return cls(model, cache, mask, _forward(model, ids.to(device), mask, cache))

    @property
    def takes_more(self) -> bool:
        """Whether rows of another length can join."""
        return _is_plain(self.cache)

    def joined(self, other: _Batch) -> _Batch:
        """Both batches as one, the shorter padded on the left."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        for mine, entering in zip(_layers(self.cache), _layers(other.cache), strict=True):
            mine.keys = _stacked([mine.keys, entering.keys], length)
            mine.values = _stacked([mine.values, entering.values], length)
        masks = [self.mask[..., None], other.mask[..., None]]
        mask = _stacked(masks, length)[..., 0]
        return _Batch(self.model, self.cache, mask, torch.cat([self.logits, other.logits]))

    def kept(self, places: Sequence[int]) -> _Batch:
        """These rows only, without what is padding in all of them on the left."""
        index = torch.tensor(places, device=self.mask.device)
        mask = self.mask[index]
        self.cache.reorder_cache(cast(torch.LongTensor, index))
        if self.takes_more and (start := int(mask.any(dim=0).long().argmax())):
            mask = mask[:, start:]
            for layer in _layers(self.cache):
                layer.keys, layer.values = layer.keys[..., start:, :], layer.values[..., start:, :]
        return _Batch(self.model, self.cache, mask, self.logits[index])

    def step(self, tokens: torch.Tensor) -> None:
        """Append one token (rows,) to each row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.logits = _forward(self.model, tokens[:, None], self.mask, self.cache)


def _stacked(parts: Sequence[torch.Tensor], length: int) -> torch.Tensor:
    """Tensors (rows, ..., tokens, width) on top of each other, padded on the left to a length."""
    padded = [pad(part, (0, 0, length - part.shape[-2], 0)) for part in parts]
    return torch.cat(padded)


def _forward(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Logits (rows, vocabulary) after the last of `ids`, which join the cache."""
    parameters = inspect.signature(model.forward).parameters
    extra: dict[str, Any] = {}
    if "position_ids" in parameters:
        # Padding counts for nothing, wherever it stands.
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        extra["position_ids"] = positions[:, -ids.shape[1] :]
    if "logits_to_keep" in parameters:
        extra["logits_to_keep"] = 1
    output = model(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra
    )
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


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
