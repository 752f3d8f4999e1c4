"""A model's sizes without its weights, against real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tspin.config import LoraConfig, ModelConfig
from tspin.errors import InputError
from tspin.models.policy import load_policy, load_tokenizer, save_policy
from tspin.models.shape import model_shape, shape_of

LLAMA: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True))


def _gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    )


@pytest.mark.parametrize(("make", "intermediate"), [(_llama, 48), (_gpt2, 128)])
@pytest.mark.parametrize("targets", [None, "all-linear", ("q_proj", "o_proj", "c_attn")])
def test_shape_without_weights_is_that_of_the_loaded_policy(
    tmp_path: Path, make: Any, intermediate: int, targets: Any
) -> None:
    make().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")  # Not read.
    settings = ModelConfig(path=str(tmp_path))
    lora = LoraConfig(r=3, target_modules=targets) if targets else None
    shape = model_shape(settings, lora)

    make().save_pretrained(tmp_path)
    policy = load_policy(
        str(tmp_path), settings, device=torch.device("cpu"), trainable=True, lora=lora
    )
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in policy.parameters())
    assert shape.adapter_parameters == (trained if lora else 0)
    assert shape.parameters + shape.adapter_parameters == everything
    assert (shape.layers, shape.hidden, shape.heads) == (2, 32, 4)
    assert (shape.intermediate, shape.attention_width) == (intermediate, 32)
    assert (shape.vocabulary, shape.attention) == (200, "tree")
    assert shape.largest == max(p.numel() for p in policy.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_what_sharded_training_gathers_at_a_time(tied: bool) -> None:
    llama = LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=tied))
    shape = shape_of(llama, LoraConfig(r=2))
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    assert (shape.layer, shape.embedding) == (layer, 0 if tied else 200 * 32)
    assert shape.root == 200 * 32 + 32
    assert shape.linear == 2 * (layer - 2 * 32)
    assert shape.adapter_parameters == 2 * 2 * (4 * 32 + 2 * (32 + 16) + 3 * (32 + 48))


def test_a_later_policy_may_stand_elsewhere(tmp_path: Path) -> None:
    _llama().save_pretrained(tmp_path / "later")
    initial = ModelConfig(path=str(tmp_path / "on another machine"))
    shape = model_shape(initial, None, str(tmp_path / "later"))
    assert shape == model_shape(ModelConfig(path=str(tmp_path / "later")), None)


def test_an_adapter_folder_is_measured_with_its_base(tmp_path: Path, tiny_model_dir: Path) -> None:
    settings = ModelConfig(path=str(tiny_model_dir))
    lora = LoraConfig(r=2)
    policy = load_policy(
        str(tiny_model_dir), settings, device=torch.device("cpu"), trainable=True, lora=lora
    )
    save_policy(policy, load_tokenizer(str(tiny_model_dir), settings), tmp_path / "adapter")
    fresh = model_shape(settings, lora)
    continued = model_shape(ModelConfig(path=str(tmp_path / "adapter")), None)
    assert continued == fresh
    assert continued.adapter_parameters > 0


def test_a_model_that_cannot_be_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        model_shape(ModelConfig(path=str(tmp_path / "missing")), None)
    (tmp_path / "config.json").write_text('{"model_type": "no_such_architecture"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"its config\.json cannot be used"):
        model_shape(ModelConfig(path=str(tmp_path)), None)
