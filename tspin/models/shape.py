"""A model's sizes from its config.json, on the meta device: no weight is loaded or allocated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tspin.attention.interface import takes_trees
from tspin.config import LoraConfig, ModelConfig
from tspin.errors import InputError
from tspin.models.configuration import model_config
from tspin.models.folder import ModelFolder, find_model

__all__ = ["ModelShape", "attention_width", "empty_model", "model_shape", "shape_of"]


Targets = tuple[str, ...] | str


@dataclass(frozen=True)
class ModelShape:
    """What decides how much memory a model needs."""

    parameters: int
    """Tied ones counted once."""
    largest: int
    """Parameters of the largest single tensor."""
    adapter_parameters: int
    """Of the LoRA adapter; 0 where all weights are trained."""
    linear: int
    """Parameters of the linear layers but the output head's: what `model.quantize` is about."""
    layer: int
    """Parameters of the largest of the layers, as transformers never splits them over devices: what
    sharded training gathers at a time. 0 where the architecture names none: it cannot be sharded.
    """
    embedding: int
    """Parameters of the embedding; 0 where the output head is tied to it."""
    root: int
    """All others: norm and output head, and the embedding that is tied to it."""
    layers: int
    hidden: int
    intermediate: int
    """Width inside the feed-forward block; for a mixture of experts, of the active ones."""
    heads: int
    attention_width: int
    """Of all heads together."""
    vocabulary: int
    attention: str
    """"tree" where rows are packed (`tspin.attention.interface`), else the implementation as
    transformers names it; "eager" keeps the whole attention matrix."""


def model_shape(
    model: ModelConfig, lora: LoraConfig | None, place: str | ModelFolder | None = None
) -> ModelShape:
    """Sizes of the model that a run would train; of a Hub model only the metadata is fetched.

    Args:
        model: The initial policy: full weights, or a LoRA adapter, which is trained on.
        lora: The adapter that training adds.
        place: A later policy of the same run, whose sizes are wanted instead.

    Raises:
        InputError: there is no such model, or transformers does not know it.
    """
    folder = find_model(place or model.path, model, weights=False)
    base = folder.base(model, weights=False) if folder.is_adapter else folder
    return _shape(_on_meta(base, model), *_adapter(folder, lora))


def shape_of(causal: PreTrainedModel, lora: LoraConfig | None) -> ModelShape:
    """Sizes of a model that is there, on the meta device or another.

    Args:
        causal: Without an adapter.
        lora: The adapter that training adds.
    """
    return _shape(causal, *((lora.r, lora.target_modules) if lora is not None else (0, ())))


def _shape(built: Any, rank: int, targets: Targets) -> ModelShape:
    config: Any = built.config.get_text_config()
    heads: int = config.num_attention_heads
    parameters = _count(built)
    layers = [_count(module) for module in _layers(built)]
    embedding, head = built.get_input_embeddings(), built.get_output_embeddings()
    tied = head is not None and head.weight is embedding.weight
    own = 0 if tied else _count(embedding)
    return ModelShape(
        parameters=parameters,
        largest=max(parameter.numel() for parameter in built.parameters()),
        adapter_parameters=_adapter_parameters(built, rank, targets) if rank else 0,
        linear=sum(
            module.weight.numel()
            for module in built.modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        ),
        layer=max(layers, default=0),
        embedding=own,
        root=parameters - sum(layers) - own,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=_intermediate(config),
        heads=heads,
        attention_width=attention_width(config),
        vocabulary=config.vocab_size,
        attention="tree" if takes_trees(built) else str(config._attn_implementation),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(causal: PreTrainedModel) -> list[nn.Module]:
    names = set(causal._no_split_modules or ())
    return [module for module in causal.modules() if type(module).__name__ in names]


def empty_model(model: ModelConfig) -> nn.Module:
    """The full model without its weights, on the meta device; of an adapter its base.

    Raises:
        InputError: as `model_shape`.
    """
    folder = find_model(model.path, model, weights=False)
    built: nn.Module = _on_meta(
        folder.base(model, weights=False) if folder.is_adapter else folder, model
    )
    return built


def _on_meta(folder: ModelFolder, model: ModelConfig) -> Any:
    trust = model.trust_remote_code
    config = model_config(folder, model)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation=model.attn_implementation, trust_remote_code=trust
            )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"model '{model.path}': its config.json cannot be used: {error}") from None


def attention_width(config: Any) -> int:
    """Width of all attention heads together, from a text configuration of transformers."""
    heads: int = config.num_attention_heads
    # Gemma, Qwen3 and others have heads whose width is no share of the hidden size.
    return heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def _intermediate(config: Any) -> int:
    # GPT-2 and its like say n_inner, and mean four times the width by saying nothing.
    width = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    experts = getattr(config, "num_experts_per_tok", None)
    if experts:
        width = (getattr(config, "moe_intermediate_size", None) or width) * experts
    return int(width or 4 * config.hidden_size)


def _adapter(folder: ModelFolder, lora: LoraConfig | None) -> tuple[int, Targets]:
    """Rank and targets of the adapter that would be trained; rank 0 for none."""
    if folder.is_adapter:
        values = folder.adapter_config()
        targets = values.get("target_modules") or "all-linear"
        return int(values["r"]), targets if isinstance(targets, str) else tuple(targets)
    return (lora.r, lora.target_modules) if lora is not None else (0, ())


def _adapter_parameters(model: Any, rank: int, targets: Targets) -> int:
    """A pair of matrices (in, rank) and (rank, out) for each layer that LoRA goes around."""
    head = model.get_output_embeddings()
    total = 0
    for name, module in model.named_modules():
        if module is head and targets == "all-linear":
            continue
        if _is_target(name, module, targets):
            kind: Literal["linear", "conv"] = "conv" if isinstance(module, Conv1D) else "linear"
            total += rank * _widths(module, kind)
    return total


def _is_target(name: str, module: nn.Module, targets: Targets) -> bool:
    if not isinstance(module, nn.Linear | Conv1D):
        return False
    if targets == "all-linear":
        return True
    if isinstance(targets, str):  # As peft reads it: a pattern over the whole name.
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _widths(module: Any, kind: Literal["linear", "conv"]) -> int:
    if kind == "linear":
        return int(module.in_features) + int(module.out_features)
    return int(module.weight.shape[0]) + int(module.weight.shape[1])
