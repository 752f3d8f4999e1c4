"""A model's config.json, with models that cannot write a text from left to right refused."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from tspin.config import ModelConfig, PromptConfig
from tspin.errors import InputError
from tspin.models.folder import ModelFolder, find_model

__all__ = ["context_length", "model_config", "token_limit"]

_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""What architectures call their number of positions."""


def model_config(folder: ModelFolder, config: ModelConfig) -> PreTrainedConfig:
    """The configuration of full weights, as transformers reads it; of an adapter give the base.

    Raises:
        InputError: transformers does not know it, or it is not of a causal language model.
    """
    try:
        own: PreTrainedConfig = AutoConfig.from_pretrained(
            folder.path, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"model '{folder.path}': its config.json cannot be used: {error}"
        ) from None
    reason = _not_causal(own)
    if reason is not None:
        name = ", ".join(own.architectures or [own.model_type])
        raise InputError(
            f"model '{folder.path}': {name} {reason}; expected a causal language model, which "
            "writes a text from left to right"
        )
    return own


def _not_causal(own: Any) -> str | None:
    """Why a model is no causal one; None for one that is, or that brings code of its own."""
    kind, text = own.model_type, own.get_text_config()
    if "AutoModelForCausalLM" in (getattr(own, "auto_map", None) or {}):
        return None
    if own.is_encoder_decoder:
        return "has an encoder and a decoder"
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    # transformers loads BERT and its like as causal models, though every token then sees the ones
    # after it: only `is_decoder` hides those (XLM calls it `causal`).
    decoder = getattr(own, "is_decoder", False) or getattr(own, "causal", False)
    if (masked and not decoder) or getattr(text, "use_bidirectional_attention", None) in (
        True,
        "all",
    ):
        return "is an encoder: each of its tokens sees the ones after it"
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "is no language model that transformers can continue a text with"
    return None


def context_length(model: str | ModelFolder, config: ModelConfig) -> int | None:
    """A model's largest number of tokens, prompt and response together; None has no limit.

    Reads the configuration only, that of the base for an adapter. Counted as vLLM counts it
    (`_get_and_verify_max_len` of vLLM 0.32): the smallest of the lengths that the configuration
    names, times the factor of a scaled rotary embedding. YaRN scales the length that the model was
    trained with first; Llama 3, LongRoPE and Gemma 3 name the scaled length already.

    Raises:
        InputError: no such model, or a configuration that transformers does not know.
    """
    folder = find_model(model, config, weights=False)
    if folder.is_adapter:
        folder = folder.base(config, weights=False)
    text: Any = model_config(folder, config).get_text_config()
    lengths = [getattr(text, name, None) for name in _LENGTHS]
    limits = [length for length in lengths if isinstance(length, int) and length > 0]
    # Cohere's own word counts before the others.
    stated = getattr(text, "model_max_length", None) or (min(limits) if limits else None)
    return None if stated is None else _scaled(int(stated), text)


def token_limit(model: str | ModelFolder, config: ModelConfig, prompt: PromptConfig) -> int:
    """Tokens of prompt and response together: prompt.max_length, or the model's context.

    Args:
        model: A folder, or a name on the Hub; or one that was found.
        config: Revision and trust.
        prompt: Its `max_length`.

    Raises:
        InputError: as `context_length`.
    """
    return min(prompt.max_length, context_length(model, config) or prompt.max_length)


def _scaled(length: int, text: Any) -> int:
    ropes = getattr(text, "rope_parameters", None) or {}
    if "gemma3" in text.model_type:
        return length
    factor = 1.0
    # One for all layers, or one a kind of layer.
    for rope in ropes.values() if ropes and "rope_type" not in ropes else [ropes]:
        kind = (rope or {}).get("rope_type", "default")
        if kind in ("su", "longrope", "llama3"):
            continue
        factor = float(rope.get("factor") or factor) if rope else factor
        if kind == "yarn":
            length = int(rope["original_max_position_embeddings"])
    return int(length * factor)
