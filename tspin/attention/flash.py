"""Tree attention on a CPU: torch's flash kernel on each part of a tree, joined exactly.

A response's attention over its prompt and over itself are two softmaxes with one normaliser. The
kernel returns each part's output o and the logarithm l of its normaliser, so the whole is
l = log(exp(l1) + exp(l2)) and o = exp(l1 - l) o1 + exp(l2 - l) o2. The kernel's backward pass needs
of the forward pass only o and l: with those of the whole it gives the gradient of each part. So no
mask is made, no keys are gathered, and all responses of a prompt look at it in one call. (The same
way of joining: FlashAttention, arXiv 2205.14135, algorithm 1; Hydragen, arXiv 2402.05099.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tspin.attention.layout import Tree, TreeLayout

__all__ = ["FlashTree"]

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class FlashTree(torch.autograd.Function):
    """`FlashTree.apply(query, key, value, layout, scale)`: see `tspin.attention.kernels`.

    Why the backward pass may run part by part: a flash kernel keeps no attention weights. It makes
    them again as p = exp(s - l) from the scores s and the saved normaliser l, and takes from the
    output only the row sums D = sum(do * o) (FlashAttention-2, arXiv 2307.08691, algorithm 2).
    With l and o of the whole, p of each part is that part's share of the joint softmax and D the
    joint one, so the gradients of the parts are exact and add up: a prompt's keys and values get
    one share from the prompt itself and one from all of its responses.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: TreeLayout,
        scale: float | None,
    ) -> Tensor:
        """Keeps queries, keys, values, the output and one normaliser a head and token."""
        query, key, value = (
            x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value)
        )
        batch, heads, length, width = query.shape
        # Laid out as what follows reads it: by token, then by head.
        out = query.new_empty(batch, length, heads, width).transpose(1, 2)
        exact = torch.promote_types(query.dtype, torch.float32)
        normaliser = torch.empty(batch, heads, length, dtype=exact)
        for tree in layout.trees:
            _attend(tree, query, key, value, out, normaliser, scale)
        ctx.save_for_backward(query, key, value, out, normaliser)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        gradient = gradients[0]
        if gradient.stride(-1) != 1:
            gradient = gradient.contiguous()
        query, key, value, out, normaliser = ctx.saved_tensors
        grads = tuple(torch.empty_like(x) for x in (query, key, value))
        saved = (gradient, query, key, value, out, normaliser)
        for tree in ctx.layout.trees:
            _differentiate(tree, saved, grads, ctx.scale)
        return *grads, None, None


def _attend(
    tree: Tree,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    normaliser: Tensor,
    scale: float | None,
) -> None:
    def part(queries: slice, keys: slice, causal: bool) -> tuple[Tensor, Tensor]:
        q, k, v = query[:, :, queries], key[:, :, keys], value[:, :, keys]
        outputs: tuple[Tensor, Tensor] = _forward(q, k, v, 0.0, causal, scale=scale)
        return outputs

    prompt = tree.prompt
    out[:, :, prompt], normaliser[:, :, prompt] = part(prompt, prompt, True)
    if not tree.responses:
        return
    all_responses = slice(prompt.stop, tree.stop)
    over_prompt, over_prompt_normaliser = part(all_responses, prompt, False)
    for response in tree.responses:
        own, own_normaliser = part(response, response, True)
        here = slice(response.start - prompt.stop, response.stop - prompt.stop)
        other_normaliser = over_prompt_normaliser[:, :, here]
        # The prompt's share of the whole: exp(l1 - l) = sigmoid(l1 - l2).
        share = torch.sigmoid(other_normaliser - own_normaliser).unsqueeze(-1).to(own.dtype)
        torch.lerp(own, over_prompt[:, :, here], share, out=out[:, :, response])
        normaliser[:, :, response] = torch.logaddexp(own_normaliser, other_normaliser)


def _differentiate(
    tree: Tree, saved: tuple[Tensor, ...], grads: tuple[Tensor, ...], scale: float | None
) -> None:
    gradient, query, key, value, out, normaliser = saved
    grad_query, grad_key, grad_value = grads

    def part(queries: slice, keys: slice, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
        g, q, o, n = (x[:, :, queries] for x in (gradient, query, out, normaliser))
        k, v = key[:, :, keys], value[:, :, keys]
        gradients: tuple[Tensor, Tensor, Tensor] = _backward(
            g, q, k, v, o, n, 0.0, causal, scale=scale
        )
        return gradients

    prompt = tree.prompt
    of_query, of_key, of_value = part(prompt, prompt, True)
    grad_query[:, :, prompt] = of_query
    if tree.responses:
        all_responses = slice(prompt.stop, tree.stop)
        of_responses, more_key, more_value = part(all_responses, prompt, False)
        grad_query[:, :, all_responses] = of_responses
        of_key, of_value = of_key + more_key, of_value + more_value
    grad_key[:, :, prompt], grad_value[:, :, prompt] = of_key, of_value
    for response in tree.responses:
        of_query, of_key, of_value = part(response, response, True)
        grad_query[:, :, response] += of_query
        grad_key[:, :, response], grad_value[:, :, response] = of_key, of_value
