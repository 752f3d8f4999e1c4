"""Floating-point operations of a training step, and how many of them a GPU can do in a second."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tspin.attention.layout import TreeLayout
from tspin.attention.redirection import causal_model
from tspin.models.quantization import weights_in
from tspin.models.shape import attention_width

__all__ = ["PassFlops", "matrix_rate"]

_SIDE = 8192
_REPEATS = 20


@dataclass(frozen=True)
class PassFlops:
    """Operations of a forward and backward pass: 2 for each weight and token, as usually counted.

    A backward pass through all weights takes twice as many as the forward pass, one that only goes
    through frozen ones as many. Windows of attention and what is computed again are not looked at.
    """

    body: int
    """Weights that every token goes through; of a mixture of experts, of the active ones."""
    head: int
    """Weights that a token goes through to be predicted."""
    attention: int
    """Width of all heads together, times the layers."""
    trained: bool
    """Whether all weights are trained, or those of an adapter."""

    @classmethod
    def of_model(cls, model: nn.Module) -> PassFlops:
        """Sizes of a causal language model of transformers, wrapped or not."""
        causal = causal_model(model)
        config: Any = causal.config.get_text_config()
        embedding: Any = causal.get_input_embeddings()
        head: Any = causal.get_output_embeddings()  # type: ignore[no-untyped-call]
        left_out = {id(layer.weight) for layer in (embedding, head) if layer is not None}
        body = sum(
            weights_in(parameter) * _active(name, config)
            for name, parameter in causal.named_parameters()
            if id(parameter) not in left_out and "lora_" not in name
        )
        return cls(
            body=int(body),
            head=config.vocab_size * config.hidden_size,
            attention=attention_width(config) * config.num_hidden_layers,
            trained=embedding is None or embedding.weight.requires_grad,
        )

    def of(self, batch: Mapping[str, Any]) -> float:
        """Of a batch as `tspin.tokens.packing` or `tspin.tokens.collator` makes it."""
        if "tree" in batch:
            tokens, predicted = batch["input_ids"].numel(), batch["targets"].numel()
            pairs = _pairs(batch["tree"])
        else:
            lengths = batch["attention_mask"].sum(dim=1)
            tokens, predicted = int(lengths.sum()), int(batch["response_mask"].sum())
            pairs = _triangle(lengths)
        weights = 2 * (self.body * tokens + self.head * predicted)
        # Scores, and their products with the values; both have no weights.
        scores = 4 * self.attention * pairs
        return float(weights * (3 if self.trained else 2) + 3 * scores)

    def of_lengths(self, prompt: int, responses: Sequence[int], *, backward: bool) -> float:
        """Of one prompt, taken once, and the responses to it, whose every token is predicted.

        A padded row is a prompt with one response. Of generation with a key-value cache this is
        the forward pass over all that came to be.

        Args:
            prompt: Tokens of the prompt.
            responses: Tokens of each response.
            backward: Whether the gradients are computed as well.
        """
        predicted = sum(responses)
        pairs = prompt * (prompt + 1) // 2
        pairs += sum(tokens * prompt + tokens * (tokens + 1) // 2 for tokens in responses)
        weights = 2 * (self.body * (prompt + predicted) + self.head * predicted)
        scores = 4 * self.attention * pairs
        if not backward:
            return float(weights + scores)
        return float(weights * (3 if self.trained else 2) + 3 * scores)


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of a product of two large square matrices on a GPU, measured."""
    left, right = (torch.randn(_SIDE, _SIDE, device=device, dtype=precision) for _ in range(2))
    for repeats in (3, _REPEATS):  # The first ones wake it up.
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        for _ in range(repeats):
            torch.matmul(left, right)
        torch.cuda.synchronize(device)
    return _REPEATS * 2 * _SIDE**3 / (time.perf_counter() - began)


def _active(name: str, config: Any) -> float:
    """The share of a parameter that a token goes through."""
    chosen = getattr(config, "num_experts_per_tok", None)
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next(
        (getattr(config, label) for label in names if hasattr(config, label)),
        None,
    )
    return chosen / experts if chosen and experts and ".experts." in name else 1.0


def _pairs(layout: TreeLayout) -> int:
    """Tokens that tokens see."""
    total = 0
    for tree in layout.trees:
        prompt = tree.prompt.stop - tree.prompt.start
        total += prompt * (prompt + 1) // 2
        for response in tree.responses:
            own = response.stop - response.start
            total += own * prompt + own * (own + 1) // 2
    return total


def _triangle(lengths: Tensor) -> int:
    return int((lengths * (lengths + 1) // 2).sum())
