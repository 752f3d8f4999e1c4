"""The prompt template of a model: its tokenizer, where it stops, and whether they fit it."""

from __future__ import annotations

import logging

from transformers import PreTrainedTokenizerBase

from tspin.config import ModelConfig, PromptConfig
from tspin.errors import InputError
from tspin.models.configuration import model_config
from tspin.models.folder import ModelFolder, adapter_vocabulary, find_model
from tspin.models.generation import end_ids
from tspin.models.pretrained import load_tokenizer
from tspin.tokens.prompts import PromptTemplate

__all__ = ["load_template"]

log = logging.getLogger(__name__)

_NAMED = 8


def load_template(
    model: str | ModelFolder, config: ModelConfig, prompt: PromptConfig
) -> PromptTemplate:
    """How a model's conversations become tokens, and at which tokens it stops.

    Args:
        model: A folder, or a name on the Hub; or one that was found.
        config: Revision and trust.
        prompt: Which template.

    Raises:
        InputError: no such model, no causal language model, a tokenizer with tokens that the model
            has no embeddings for, or a template that cannot be used (`PromptTemplate.load`).
    """
    folder = find_model(model, config, weights=False)
    base = folder.base(config, weights=False) if folder.is_adapter else folder
    own = model_config(base, config)
    rows: int | None = getattr(own.get_text_config(), "vocab_size", None)
    if folder.is_adapter:
        rows = adapter_vocabulary(find_model(folder, config)) or rows  # Small, and needed anyway.
    tokenizer = load_tokenizer(folder, config)
    if rows is not None:
        _check_vocabulary(tokenizer, folder, rows, chat=prompt.template != "instruction")
    # A configuration made for another vocabulary may name tokens that cannot come.
    ends = [index for index in end_ids(folder, config) if rows is None or index < rows]
    return PromptTemplate.load(tokenizer, prompt, generation=ends, vocabulary=rows)


def _check_vocabulary(
    tokenizer: PreTrainedTokenizerBase, folder: ModelFolder, rows: int, *, chat: bool
) -> None:
    """Refuse tokens without an embedding that a text can come to have; padding is none of it.

    Special tokens that nothing writes do no harm: Gemma 3 without images has one for images.
    """
    surplus = {token: index for token, index in tokenizer.get_vocab().items() if index >= rows}
    surplus.pop(str(tokenizer.pad_token), None)
    if not surplus:
        return
    size = max(surplus.values()) + 1
    added = tokenizer.added_tokens_decoder
    template = str(tokenizer.chat_template or "") if chat else ""
    written = [
        token
        for token, index in sorted(surplus.items(), key=lambda item: item[1])
        if index not in added
        or not added[index].special
        or token in (tokenizer.bos_token, tokenizer.eos_token)
        or token in template
    ]
    message = f"model '{folder.path}': its tokenizer has {size} tokens, its embedding {rows}"
    if not written:
        log.warning("%s; nothing writes the rest: %s", message, list(surplus)[:_NAMED])
        return
    more = f" and {len(written) - _NAMED} more" if len(written) > _NAMED else ""
    raise InputError(
        f"{message}: there is none for {written[:_NAMED]}{more}. Take the tokenizer that the model "
        "was trained with, or resize the model (`resize_token_embeddings`) and save it"
    )
