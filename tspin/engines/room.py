"""Whether a policy fits a device, and over how many of them vLLM spreads it.

Of vLLM are counted the weights and the keys and values of one sequence of the longest kind, without
which nothing can be answered. It needs a little more for its activations, and takes all the rest
for further sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from tspin.config import ModelConfig, RunConfig, SystemConfig
from tspin.errors import InputError
from tspin.machine.check import gib
from tspin.machine.hardware import available_memory
from tspin.models.device import resolve_device, resolve_dtype
from tspin.models.folder import ModelFolder, find_model
from tspin.models.quantization import is_quantized
from tspin.models.shape import ModelShape, model_shape

__all__ = [
    "Need",
    "cpu_room",
    "gpu_room",
    "memory_of_gpus",
    "need_of",
    "passes_fit",
    "refuse_too_large",
    "shared_size",
    "weights_of",
]

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
    key_heads: int
    """Heads of keys and values; where more GPUs share a model, some have the same."""

    def sizes(self, gpus: int) -> list[int]:
        """Over how many of so many GPUs vLLM can spread the model.

        The smallest first of those that leave no GPU over; then the others.
        """
        groups = self.key_heads
        sizes = [
            size
            for size in range(1, gpus + 1)
            if self.heads % size == 0 and (groups % size == 0 or size % groups == 0)
        ]
        return sorted(sizes, key=lambda size: (gpus % size > 0, size))

    def on_each(self, gpus: int, stages: int = 1) -> float:
        """Bytes on each of so many GPUs that share each stage of the model."""
        return (self.weights / gpus + self.sequence / min(gpus, self.key_heads)) / stages

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
    return Need(str(folder.reference[0]), weights, sequence, tokens, shape.heads, groups)


def memory_of_gpus(system: SystemConfig) -> list[int]:
    """In bytes, of each GPU that torch sees; empty where the CPU is to be used.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    if resolve_device(system).type == "cpu":
        return []
    devices = range(torch.cuda.device_count())
    return [torch.cuda.get_device_properties(index).total_memory for index in devices]


def refuse_too_large(
    model: str | ModelFolder, config: RunConfig, gpus: list[int], instead: str
) -> None:
    """Refuse what has to be whole on one GPU and cannot be, before anything is loaded.

    Args:
        model: A model folder, an adapter folder, or a name on the Hub.
        config: Sections model and system.
        gpus: Bytes of memory of each; none on a CPU, for which nothing is refused.
        instead: What to do, as a sentence goes on after a full stop.

    Raises:
        InputError: the weights alone are larger than a GPU.
    """
    if not gpus:
        return
    _, weights = _sizes(model, config)
    if weights > min(gpus):
        raise InputError(
            f"model '{model if isinstance(model, str) else model.path}' has {gib(weights)} of "
            f"weights, more than the {gib(min(gpus))} of one GPU, and has to be whole on one for "
            f"this. {instead}"
        )


def passes_fit(model: str | ModelFolder, config: RunConfig, gpus: list[int]) -> bool:
    """Whether one GPU has room for a policy and its forward passes without gradients.

    Counted are the weights, the inner values of one layer and its input (s N (6 h + 3 a + 3 i)),
    the logits of a chunk, twice more in float32 (C V (s + 8)), and as in `tspin.machine.memory`
    1 GiB for a context and a twentieth for fragments; the letters are explained there.

    Args:
        model: A model folder, an adapter folder, or a name on the Hub.
        config: Sections model, prompt and system.
        gpus: Bytes of memory of each; none on a CPU, whose memory processes only share.
    """
    if not gpus:
        return True
    shape, weights = _sizes(model, config)
    system, s = config.system, resolve_dtype(config.model, resolve_device(config.system)).itemsize
    tokens = max(system.tokens_per_device, config.prompt.max_length)
    layer = s * tokens * (6 * shape.hidden + 3 * shape.attention_width + 3 * shape.intermediate)
    head = min(system.logps_chunk_size, tokens) * shape.vocabulary * (s + 8)
    return 2**30 + 1.05 * (weights + max(layer, head)) <= min(gpus)


def weights_of(model: str | ModelFolder, config: RunConfig) -> int:
    """Bytes of a policy's weights on a device; nothing is loaded.

    Raises:
        InputError: there is no such model, or transformers does not know it.
    """
    return _sizes(model, config)[1]


def _sizes(model: str | ModelFolder, config: RunConfig) -> tuple[ModelShape, int]:
    """A policy's shape, and the bytes of its weights on a device."""
    folder = find_model(model, config.model)
    base = folder.base(config.model) if folder.is_adapter else folder
    dtype = resolve_dtype(config.model, resolve_device(config.system))
    weights = need_of(base, config.model, tokens=1, dtype=dtype).weights
    shape = model_shape(config.model.model_copy(update={"path": str(base.path)}), None)
    return shape, weights


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
    for size in [asked] if asked else need.sizes(len(gpus)):
        over = size * stages
        if over <= len(gpus) and need.on_each(size, stages) <= budget:
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


def shared_size(need: Need, engine_args: Mapping[str, Any], gpus: list[int]) -> int:
    """Over how many GPUs one copy of a model is spread that is asked for no more than one.

    As many as are possible where it fits on none by this estimate, which takes no notice of layers
    that keep fewer keys and values: vLLM itself then says whether that is enough.

    Args:
        need: Of the policy.
        engine_args: The configured ones.
        gpus: Bytes of memory of each visible GPU.
    """
    budget = engine_args.get("gpu_memory_utilization", _GPU_SHARE) * min(gpus)
    sizes = need.sizes(len(gpus))
    return next((size for size in sizes if need.on_each(size) <= budget), max(sizes))
