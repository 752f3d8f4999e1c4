"""How many tokens a model can look at."""

from __future__ import annotations

from transformers import AutoConfig

from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.models.folder import find_model

__all__ = ["context_length"]


def context_length(model: str, config: ModelConfig) -> int | None:
    """A model's largest number of tokens, prompt and response together; None has no limit.

    Reads the configuration only, that of the base for an adapter.

    Raises:
        InputError: no such model, or a configuration that transformers does not know.
    """
    found = find_model(model, config, weights=False)
    if found.is_adapter:
        found = found.base(config, weights=False)
    try:
        own = AutoConfig.from_pretrained(found.path, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"model '{model}': its configuration cannot be read: {error}") from None
    limit = getattr(own.get_text_config(), "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None
