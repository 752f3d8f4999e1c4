"""Random models, batches and the definition that log-probabilities are tested against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 97
HIDDEN = 16

Batch = dict[str, Tensor]


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A random Llama whose predictions depend clearly on what stands before."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.5,
    }
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def make_batch(rows: int = 6, length: int = 20, vocabulary: int = VOCABULARY) -> Batch:
    """Rows of prompt + response of random lengths, right-padded."""
    generator = torch.Generator().manual_seed(1)
    end = torch.randint(length // 2, length + 1, (rows, 1), generator=generator)
    start = torch.randint(1, length // 2, (rows, 1), generator=generator)
    position = torch.arange(length)
    return {
        "input_ids": torch.randint(0, vocabulary, (rows, length), generator=generator),
        "attention_mask": (position < end).long(),
        "response_mask": (position >= start) & (position < end),
    }


def plain_logps(model: nn.Module, batch: Batch) -> Tensor:
    """The definition, written out over all logits."""
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    logps = logits[:, :-1].log_softmax(dim=-1)
    taken = logps.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    return (taken * batch["response_mask"][:, 1:]).sum(dim=1)
