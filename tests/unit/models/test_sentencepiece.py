"""A tokenizer of which there is a SentencePiece file only."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import TEXTS
from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.models.pretrained import load_tokenizer
from tspin.tokens.prompts import PromptTemplate

CONFIG = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}


def folder_with(path: Path, content: bytes) -> ModelConfig:
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (path / "model.safetensors").touch()
    (path / "tokenizer.model").write_bytes(content)
    (path / "tokenizer_config.json").write_text(json.dumps(CONFIG | {"unk_token": "<unk>"}))
    return ModelConfig(path=str(path))


def test_what_reads_it_is_named_where_it_cannot_be_read(tmp_path: Path) -> None:
    config = folder_with(tmp_path, b"not one")
    named = r"SentencePiece file tokenizer\.model.*tspin\[sentencepiece\].*protobuf"
    with pytest.raises(InputError, match=named):
        load_tokenizer(config.path, config)


@pytest.mark.skipif(not find_spec("sentencepiece"), reason="sentencepiece is not installed")
def test_it_is_read(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS * 8))
    SentencePieceTrainer.train(
        input=str(texts),
        model_prefix=str(tmp_path / "trained"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
    )
    config = folder_with(tmp_path, (tmp_path / "trained.model").read_bytes())
    (tmp_path / "trained.model").unlink()
    template = PromptTemplate.load(load_tokenizer(config.path, config), "auto")
    for text in ("A city", " A", "é😀", "12 and 34"):
        assert template.decode(template.response_ids(text)) == text
