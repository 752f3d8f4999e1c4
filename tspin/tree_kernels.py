"""Attention over a packed row of trees, by whatever computes it best on a device.

All functions take queries (1, Hq, T, D), keys (1, Hk, T, D) and values (1, Hk, T, E), where Hq is
a multiple of Hk, and return (1, Hq, T, E). Every token sees the tokens of its prompt, and those
of its own response, up to itself; under a window of W tokens only the last W of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from tspin.tree_flash import FlashTree
from tspin.tree_layout import Tree, TreeLayout

try:  # The name and the arguments have changed between releases of torch.
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None  # type: ignore[assignment]

__all__ = ["attend", "flash_attention", "flex_attention", "segment_attention", "varlen_attention"]

_LARGEST_FLASH_HEAD = 256
_HALVES = (torch.float16, torch.bfloat16)


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
        if even and _has_varlen(query):
            return varlen_attention(query, key, value, layout, scale=scale, window=window)
        if even:
            return flex_attention(query, key, value, layout, scale=scale, window=window)
    return segment_attention(query, key, value, layout, scale=scale, window=window)


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, *, scale: float | None
) -> Tensor:
    """On a CPU, without windows: no mask, no gathered keys (see `tspin.tree_flash`)."""
    result: Tensor = FlashTree.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
    return result


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: TreeLayout,
    *,
    scale: float | None,
    window: int | None,
    kernel: Callable[..., Tensor] | None = None,
) -> Tensor:
    """On a GPU, in half precision: each response's queries, and its prompt's and its own keys.

    Args:
        query: As for all functions here; so are the next five.
        key: See there.
        value: See there.
        layout: See there.
        scale: See there.
        window: See there.
        kernel: Takes what `torch.nn.attention.varlen.varlen_attn` takes; None is that one.
    """
    indices = layout.varlen(query.device)
    run: Any = kernel or varlen_attn
    out_THD = run(
        query[0].transpose(0, 1).contiguous(),
        key[0].transpose(0, 1).index_select(0, indices.keys),
        value[0].transpose(0, 1).index_select(0, indices.keys),
        indices.cu_queries,
        indices.cu_keys,
        indices.longest_queries,
        indices.longest_keys,
        scale=scale,
        # Tokens to the left besides the token itself; no limit is -1.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    result: Tensor = out_THD.transpose(0, 1).unsqueeze(0)
    return result


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: TreeLayout,
    *,
    scale: float | None,
    window: int | None,
) -> Tensor:
    """On a GPU where there is no variable-length attention: blocks of the mask are skipped."""
    device, length = query.device, layout.length
    on_gpu = device.type == "cuda"

    def make() -> flex.BlockMask:
        # Compiled, it never holds a mask of all pairs of tokens.
        sees = _mask_of(layout, device, window)
        return flex.create_block_mask(
            sees, None, None, length, length, device=device, _compile=on_gpu
        )

    mask = layout.once((device, window), make)
    run: Any = _compiled() if on_gpu else flex.flex_attention
    gqa = query.shape[1] != key.shape[1]
    result: Tensor = run(query, key, value, block_mask=mask, scale=scale, enable_gqa=gqa)
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
    """Anywhere: one call of torch's scaled dot-product attention a prompt and a response."""
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


@cache
def _compiled() -> Any:
    return torch.compile(flex.flex_attention, dynamic=True)


def _segments(layout: TreeLayout) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """Queries, and the ranges of keys that they see in the manner of a causal mask."""
    tree: Tree
    for tree in layout.trees:
        yield tree.prompt, (tree.prompt,)
        for response in tree.responses:
            yield response, (tree.prompt, response)


def _mask_of(
    layout: TreeLayout, device: torch.device, window: int | None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    tree_T, branch_T, position_T = layout.marks(device)
    reach = layout.context if window is None else window

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        related = (branch_T[key] == 0) | (branch_T[key] == branch_T[query])
        near = position_T[query] - position_T[key] < reach
        return (query >= key) & (tree_T[query] == tree_T[key]) & related & near

    return sees


def _has_varlen(query: Tensor) -> bool:
    if varlen_attn is None or query.dtype not in _HALVES:
        return False
    parameters = inspect.signature(varlen_attn).parameters
    if not {"window_size", "enable_gqa", "scale"} <= parameters.keys():
        return False
    fits = query.shape[-1] <= _LARGEST_FLASH_HEAD and query.shape[-1] % 8 == 0
    return fits and torch.cuda.get_device_capability(query.device) >= (8, 0)
