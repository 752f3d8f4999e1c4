"""Randomly initialised models of the shapes that the benchmark is run with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

__all__ = ["END_TOKEN", "SHAPES", "SPECIAL", "make_model", "words"]

SPECIAL = ("<unk>", "</s>", "<pad>")
"""The first tokens of every vocabulary here."""
END_TOKEN = 1

_LLAMA = {"model_type": "llama", "tie_word_embeddings": True}

SHAPES: dict[str, dict[str, Any]] = {
    "toy": _LLAMA
    | {
        "vocab_size": 256,
        # 32 a head: vLLM has no narrower one on a CPU.
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    # 20.9M parameters; the head's share, 15 %, is between a 7B's 2 % and a 0.5B's 28 %.
    "20m": _LLAMA
    | {
        "vocab_size": 8192,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 10,
        "num_attention_heads": 6,
    },
    # The shape of Qwen2.5-0.5B.
    "0.5b": {
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    # The shape of Llama-3.2-1B.
    "1b": _LLAMA
    | {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    # The shape of Llama-2-7B.
    "7b": {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
}


def make_model(size: str, folder: Path, dtype: torch.dtype) -> int:
    """Write a random model of this size and a tokenizer with a token for each word.

    The weights are made where torch's default device is; seed it before.

    Args:
        size: A name in `SHAPES`.
        folder: Where it goes.
        dtype: Of its weights.

    Returns:
        The number of parameters.
    """
    shape = SHAPES[size]
    tokenizer = _tokenizer(shape["vocab_size"])
    config = AutoConfig.for_model(
        **shape,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def words(ids: list[int]) -> str:
    """The text whose tokens are these ids; none of them is a special token."""
    return " ".join(f"w{token}" for token in ids)


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    names = [*SPECIAL, *(f"w{token}" for token in range(len(SPECIAL), vocabulary))]
    unknown, end, padding = SPECIAL
    tokenizer = Tokenizer(
        models.WordLevel({name: token for token, name in enumerate(names)}, unk_token=unknown)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, unk_token=unknown, eos_token=end, pad_token=padding
    )
