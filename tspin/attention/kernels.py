"""Attention over a packed row of trees, by whatever computes it best on a device.

All functions take queries (1, Hq, T, D), keys (1, Hk, T, D) and values (1, Hk, T, E), where Hq is
a multiple of Hk, and return (1, Hq, T, E). Every token sees the tokens of its prompt, and those
of its own response, up to itself; under a window of W tokens only the last W of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tspin.attention.flash import FlashTree
from tspin.attention.gpu import flex_attention, has_varlen, varlen_attention
from tspin.attention.layout import Tree, TreeLayout

__all__ = ["attend", "flash_attention", "segment_attention"]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: TreeLayout,
    *,
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Tree attention by the fastest way that this device, precision and shape allow.

    Args:
        query: See above; all three in one precision.
        key: See above.
        value: See above.
        layout: Of the row.
        scale: Of the scores; None is 1 / sqrt(D).
        window: W in tokens; None where every token sees all before it.
    """
    if window is not None and window >= layout.context:
        window = None  # No token could look farther back.
    even = query.shape[-1] == value.shape[-1]
    if query.device.type == "cpu" and even and window is None:
        return flash_attention(query, key, value, layout, scale=scale)
    if query.device.type == "cuda":
        if even and has_varlen(query):
            return varlen_attention(query, key, value, layout, scale=scale, window=window)
        if even:
            return flex_attention(query, key, value, layout, scale=scale, window=window)
    return segment_attention(query, key, value, layout, scale=scale, window=window)


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, *, scale: float | None
) -> Tensor:
    """On a CPU, without windows: no mask, no gathered keys (see `tspin.attention.flash`).

    Args:
        query: As for all functions here; so is what follows.
        key: See there.
        value: See there.
        layout: See there.
        scale: See there.
    """
    result: Tensor = FlashTree.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
    return result


def segment_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: TreeLayout,
    *,
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Anywhere: one call of torch's scaled dot-product attention a prompt and a response.

    Args:
        query: As for all functions here; so is what follows.
        key: See there.
        value: See there.
        layout: See there.
        scale: See there.
        window: See there.
    """
    gqa = query.shape[1] != key.shape[1]
    parts = []
    for queries, keys in _segments(layout):
        own_key, own_value = (torch.cat([x[:, :, p] for p in keys], dim=2) for x in (key, value))
        count, seen = queries.stop - queries.start, own_key.shape[2]
        mask = None
        if count != seen or window is not None:
            ahead = torch.arange(seen, device=query.device) - (seen - count)
            distance = torch.arange(count, device=query.device)[:, None] - ahead
            mask = (distance >= 0) & (distance < (window or seen + 1))
        parts.append(
            F.scaled_dot_product_attention(
                query[:, :, queries],
                own_key,
                own_value,
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=gqa,
            )
        )
    return torch.cat(parts, dim=2)


def _segments(layout: TreeLayout) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """Queries, and the ranges of keys that they see in the manner of a causal mask."""
    tree: Tree
    for tree in layout.trees:
        yield tree.prompt, (tree.prompt,)
        for response in tree.responses:
            yield response, (tree.prompt, response)
