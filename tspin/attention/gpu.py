"""Tree attention on a GPU: variable-length attention, or flex attention without it.

Queries (1, Hq, T, D), keys and values (1, Hk, T, D), where Hq is a multiple of Hk; returns
(1, Hq, T, D). Under a window of W tokens a token sees the last W that it could see.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from tspin.attention.layout import TreeLayout

try:  # The name and the arguments have changed between releases of torch.
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None  # type: ignore[assignment]

__all__ = ["flex_attention", "has_varlen", "varlen_attention"]

_LARGEST_HEAD = 256
_HALVES = (torch.float16, torch.bfloat16)


def has_varlen(query: Tensor) -> bool:
    """Whether variable-length attention takes queries of this precision and width, here."""
    if varlen_attn is None or query.dtype not in _HALVES:
        return False
    parameters = inspect.signature(varlen_attn).parameters
    if not {"window_size", "enable_gqa", "scale"} <= parameters.keys():
        return False
    fits = query.shape[-1] <= _LARGEST_HEAD and query.shape[-1] % 8 == 0
    return fits and torch.cuda.get_device_capability(query.device) >= (8, 0)


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
    """On a GPU where there is no variable-length attention: blocks of the mask are skipped.

    Args:
        query: As for all functions here; so is what follows.
        key: See there.
        value: See there.
        layout: See there.
        scale: See there.
        window: See there.
    """
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


@cache
def _compiled() -> Any:
    return torch.compile(flex.flex_attention, dynamic=True)


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
