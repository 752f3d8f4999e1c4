"""How a policy is spread over the memory that vLLM gets, and whether it fits there at all.

Counted are the weights and the keys and values of one sequence of the longest kind, without which
nothing can be answered. vLLM needs a little more for its activations, and takes all the rest for
further sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.machine.check import gib
from tspin.machine.hardware import available_memory
from tspin.models.folder import ModelFolder
from tspin.models.quantization import is_quantized
from tspin.models.shape import model_shape

__all__ = ["Need", "cpu_room", "gpu_room", "need_of"]

_GPU_SHARE = 0.9
_FOUR_BITS = 0.5 + 4 / 64
"""Bytes of a weight in NF4: half of one, and a float32 for each block of 64, as vLLM keeps it."""
_CACHE = 4 * 2**30
"""Bytes for keys and values on a CPU, where the memory has room for them."""


@dataclass(frozen=True)
class Need:
    """What a policy needs at the least."""

    model: str
    weights: int
    """Bytes."""
    sequence: int
    """Bytes of the keys and values of one sequence."""
    tokens: int
    """Of that sequence."""
    heads: int
    """Attention heads; a number of GPUs that shares a model divides it."""

    def __str__(self) -> str:
        return (
            f"model '{self.model}' needs {gib(self.weights)} for its weights and "
            f"{gib(self.sequence)} for the keys and values of {self.tokens} tokens"
        )


def need_of(
    folder: ModelFolder,
    config: ModelConfig,
    *,
    tokens: int,
    dtype: torch.dtype,
    quantized: bool = False,
) -> Need:
    """What full weights need; nothing is loaded.

    Args:
        folder: Of the base model, where the policy is an adapter.
        config: Trust, and whether the layers between embeddings and head are in four bits.
        tokens: The longest prompt and response together.
        dtype: Of weights, keys and values.
        quantized: The weights are as large in memory as in their files, or smaller.

    Raises:
        InputError: transformers does not know the model.
    """
    shape = model_shape(config.model_copy(update={"path": str(folder.path)}), None)
    own: Any = AutoConfig.from_pretrained(
        folder.path, trust_remote_code=config.trust_remote_code
    ).get_text_config()
    weights = shape.parameters * dtype.itemsize
    if quantized or getattr(own, "quantization_config", None):
        weights = sum(file.stat().st_size for file in folder.path.glob("*.safetensors"))
    if is_quantized(config):
        ends = own.vocab_size * own.hidden_size * (1 if own.tie_word_embeddings else 2)
        weights = int(ends * dtype.itemsize + (shape.parameters - ends) * _FOUR_BITS)
    groups = getattr(own, "num_key_value_heads", None) or shape.heads
    width = shape.attention_width // shape.heads * groups
    sequence = 2 * shape.layers * width * dtype.itemsize * tokens
    return Need(str(folder.reference[0]), weights, sequence, tokens, shape.heads)


def cpu_room(need: Need, engine_args: dict[str, Any]) -> dict[str, Any]:
    """Settings of vLLM for the memory of a CPU.

    Raises:
        InputError: weights, keys and values are more than is available.
    """
    copies = engine_args.get("data_parallel_size", 1)
    available = available_memory()[0] // copies
    cache = engine_args.get("kv_cache_memory_bytes")
    if cache is None:
        cache = max(need.sequence, min(_CACHE, (available - need.weights) // 2))
    if need.weights + cache > available or need.sequence > cache:
        raise InputError(
            f"{need}; {gib(available)} of memory are available"
            f"{' to each copy' if copies > 1 else ''}, {gib(cache)} of them for keys and values "
            "(generate.engine_args.kv_cache_memory_bytes). Lower prompt.max_length, or take a "
            "smaller model or a machine with more memory"
        )
    return {"kv_cache_memory_bytes": cache}


def gpu_room(need: Need, engine_args: dict[str, Any], gpus: list[int]) -> dict[str, Any]:
    """Settings of vLLM for the memory of GPUs: as few to a copy of the model as it fits on.

    The other GPUs get copies of their own (data parallelism).

    Args:
        need: Of the policy.
        engine_args: The configured ones; a size that they give is kept.
        gpus: Bytes of memory of each visible GPU.

    Raises:
        InputError: the model fits on no number of them, or the number asked for.
    """
    share = engine_args.get("gpu_memory_utilization", _GPU_SHARE)
    budget = int(share * min(gpus))
    stages = engine_args.get("pipeline_parallel_size", 1)
    asked = engine_args.get("tensor_parallel_size")
    sizes = [asked] if asked else [n for n in range(1, len(gpus) + 1) if need.heads % n == 0]
    for size in sizes:
        over = size * stages
        if over <= len(gpus) and (need.weights + need.sequence) / over <= budget:
            copies = engine_args.get("data_parallel_size", len(gpus) // over)
            return {
                "gpu_memory_utilization": share,
                "tensor_parallel_size": size,
                "data_parallel_size": copies,
            }
    raise InputError(
        f"{need}; each of {len(gpus)} GPUs gives {gib(budget)} "
        f"(generate.engine_args.gpu_memory_utilization is {share})"
        f"{f', and tensor_parallel_size is {asked}' if asked else ''}. Take more GPUs, lower "
        "prompt.max_length, or set generate.engine_args.quantization"
    )
