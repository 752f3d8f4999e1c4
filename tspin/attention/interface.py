"""Tree attention as an attention implementation of transformers, for the models that take it.

transformers asks a registered function for the attention of every layer. What it cannot tell the
function, which tokens of a packed row see which, goes with the call as a keyword argument that its
models hand on from layer to layer, so gradient checkpointing and the wrappers of distributed
training keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from tspin.attention.kernels import attend
from tspin.attention.layout import TreeLayout
from tspin.attention.redirection import causal_model
from tspin.errors import TspinError

__all__ = [
    "TREE",
    "UnsupportedModelError",
    "check_layers",
    "postponed_refusal",
    "takes_trees",
    "tree_attention",
]

TREE = "tree"
"""The keyword argument of a model's forward pass that brings the `TreeLayout`."""

_NAME = "tspin_tree"

# What changes the attention of a layer in a way that is not computed here, and what does not.
_HARMLESS = frozenset(
    {
        "cache_position",
        "is_causal",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "past_key_values",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)


_postponed: list[list[str]] = []
"""For each `postponed_refusal` under way, what the layers of its pass do that is not computed."""


class UnsupportedModelError(TspinError):
    """This model does something that a packed row does not allow."""


def takes_trees(causal: PreTrainedModel) -> bool:
    """Whether a model's attention can be replaced at all."""
    return bool(causal._supports_attention_backend and causal._can_set_attn_implementation())


@contextmanager
def tree_attention(model: nn.Module) -> Iterator[None]:
    """Let a model's layers attend by the `TreeLayout` of each call, and by nothing else.

    Args:
        model: A causal language model of transformers, wrapped or not.

    Raises:
        UnsupportedModelError: its attention is its own, out of reach.
    """
    causal = causal_model(model)
    if not takes_trees(causal):
        name = type(causal).__name__
        raise UnsupportedModelError(f"{name} does not attend through transformers' interface")
    before = str(causal.config._attn_implementation)
    causal.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        causal.set_attn_implementation(before)


@contextmanager
def postponed_refusal() -> Iterator[None]:
    """Run one forward pass to its end before it is refused; its values then mean nothing.

    An error inside the forward pass of sharded weights leaves them gathered, and torch has no way
    back from there (FSDP2 of torch 2.13).

    Raises:
        UnsupportedModelError: a layer did something that a packed row does not allow.
    """
    doubts: list[str] = []
    _postponed.append(doubts)
    try:
        yield
    finally:
        _postponed.pop()
    if doubts:
        raise UnsupportedModelError(doubts[0])


def check_layers(causal: PreTrainedModel, layout: TreeLayout) -> None:
    """Refuse a model in which some layers mix tokens by something else than attention.

    Args:
        causal: The model.
        layout: After one forward pass.

    Raises:
        UnsupportedModelError: fewer layers attended by the layout than there are.
    """
    layers = causal.config.get_text_config().num_hidden_layers
    if layout.calls < layers:
        raise UnsupportedModelError(
            f"only {layout.calls} of {layers} layers of {type(causal).__name__} are attention"
        )


def _tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: (1, heads, T, width) each; returns (1, T, heads, width)."""
    layout = settings.pop(TREE, None)
    doubt = _doubt(module, layout, query, key, attention_mask, dropout, settings)
    if doubt is not None:
        doubt = f"{type(module).__name__} {doubt}"
        if not _postponed:
            raise UnsupportedModelError(doubt)
        _postponed[-1].append(doubt)
        return query.new_zeros(*query.transpose(1, 2).shape[:3], value.shape[-1]), None
    layout.calls += 1
    if torch.is_autocast_enabled(query.device.type):
        precision = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(precision), key.to(precision), value.to(precision)
    out = attend(query, key, value, layout, scale=scaling, window=sliding_window)
    return out.transpose(1, 2).contiguous(), None


def _doubt(
    module: nn.Module,
    layout: TreeLayout | None,
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    settings: dict[str, Any],
) -> str | None:
    """What a layer does that a packed row does not allow, or None."""
    if layout is None:
        return "is not told which tokens see which"
    unknown = sorted(k for k, v in settings.items() if v is not None and k not in _HARMLESS)
    if attention_mask is not None:
        unknown.append("attention_mask")
    if dropout:
        unknown.append("dropout")
    if not getattr(module, "is_causal", True) or settings.get("is_causal") is False:
        unknown.append("is_causal")
    if unknown:
        return f"also attends by {', '.join(unknown)}"
    if query.shape[0] != 1 or query.shape[2] != layout.length or key.shape[2] != layout.length:
        return "attends over something else than the row"
    return None


AttentionInterface.register(_NAME, _tree_attention)
