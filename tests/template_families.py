"""Chat templates of current model families, and small tokenizers that know their tokens."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.conftest import make_tokenizer

_TAG = re.compile(r"<[^<>\s'\"{}]{1,40}>|\[/?[A-Z_]{3,}\]")
_SPECIAL = re.compile(r"[|\uff5c]|_of_|_turn")


@cache
def families() -> dict[str, str]:
    """Name to Jinja source: as models ship them, not the ones that TRL changed for training."""
    spec = find_spec("trl")
    folder = Path(str(spec and spec.origin)).parent / "chat_templates"
    return {
        path.stem: path.read_text()
        for path in sorted(folder.glob("*.jinja"))
        if not path.stem.endswith("_training")
    }


@cache
def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with the tokens that a family's template writes."""
    source = families()[name]
    tags = sorted(set(_TAG.findall(source)) - {"<s>", "</s>"})
    special = tuple(tag for tag in tags if _SPECIAL.search(tag))
    tokenizer = make_tokenizer(chat_template=source, special=special, bos=True)
    tokenizer.add_tokens(["<think>", "</think>", *(set(tags) - set(special))])
    tokenizer.name_or_path = name
    return tokenizer
