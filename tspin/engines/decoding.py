"""Decoding of one batch without wasted work: a shared beginning once, ended rows no longer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tspin.engines.sampling import RowSampler

__all__ = ["decode"]

_WORTH = 64
"""Prompt tokens that must be saved for the shared beginning to get a forward pass of its own."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    pad_token_id: int,
    sampler: RowSampler,
    ended: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """Continue prompts token by token, all at the same time; a row that has ended leaves the batch.

    Args:
        model: In evaluation mode, on its device.
        prompts: Token ids, at least one each.
        pad_token_id: Stands where a prompt is shorter; it is never looked at.
        sampler: Draws the tokens; one row a prompt.
        ended: Whether a row has ended, from the tokens that it has emitted.

    Returns:
        What each row emitted, the token that ended it included.
    """
    emitted: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    batch = _Batch.of(model, prompts, pad_token_id)
    while True:
        tokens = sampler.draw(batch.logits)
        for row, token in zip(alive, tokens.tolist(), strict=True):
            emitted[row].append(token)
        left = [place for place, row in enumerate(alive) if not ended(emitted[row])]
        if not left:
            return emitted
        if len(left) < len(alive):
            alive = [alive[place] for place in left]
            tokens = tokens[left]
            sampler.keep(left)
            batch.keep(left)
        batch.step(tokens)


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
    def of(cls, model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], pad: int) -> _Batch:
        """Run the prompts through the model, what all of them begin with only once."""
        device = model.device
        cache = DynamicCache(config=model.config)
        shared = _shared(prompts) if _can_repeat(cache) else 0
        if shared:
            first = torch.tensor([prompts[0][:shared]], device=device)
            _forward(model, first, torch.ones_like(first), cache)
            cache.batch_repeat_interleave(len(prompts))
        rest = max(map(len, prompts)) - shared
        ids = torch.full((len(prompts), rest), pad)
        mask = torch.ones(len(prompts), shared + rest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            padding = rest - (len(prompt) - shared)
            ids[row, padding:] = torch.tensor(prompt[shared:])
            mask[row, shared : shared + padding] = 0
        mask = mask.to(device)
        return cls(model, cache, mask, _forward(model, ids.to(device), mask, cache))

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(places, device=self.mask.device)
        self.mask = self.mask[index]
        self.cache.reorder_cache(cast(torch.LongTensor, index))

    def step(self, tokens: torch.Tensor) -> None:
        """Append one token (rows,) to each row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.logits = _forward(self.model, tokens[:, None], self.mask, self.cache)


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


def _can_repeat(cache: DynamicCache) -> bool:
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
