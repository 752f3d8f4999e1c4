"""Response log-probabilities of many architectures, against the definition over all logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, make_batch, plain_logps
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tspin.forward.head import check_head
from tspin.forward.logprobs import response_logps

pytestmark = pytest.mark.integration

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
# The default kernels for experts know no float64.
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2, "experts_implementation": "eager"}

# Name: model type, settings. What each adds: soft-capping, scales, biases, tied embeddings, ...
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "mistral window": ("mistral", {"sliding_window": 6}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}),
    "gpt2 tied": ("gpt2", GPT2),
    "gemma2 soft-capped": ("gemma2", {"final_logit_softcapping": 2.0}),
    "gemma3 soft-capped": ("gemma3_text", {"final_logit_softcapping": 3.0}),
    "granite scaled": ("granite", {"logits_scaling": 4.0, "embedding_multiplier": 3.0}),
    "cohere scaled": ("cohere", {"logit_scale": 0.25}),
    "cohere2 scaled": ("cohere2", {"logit_scale": 0.5}),
    "phi head bias": ("phi", {"num_key_value_heads": 2}),
    "phi3": ("phi3", {}),
    "opt inner decoder": ("opt", {"ffn_dim": 24, "word_embed_proj_dim": 16}),
    "opt projected": ("opt", {"ffn_dim": 24, "word_embed_proj_dim": 8}),
    "gpt-neox": ("gpt_neox", {}),
    "gpt-j head bias": ("gptj", GPT2 | {"rotary_dim": 4}),
    "falcon": ("falcon", {}),
    "bloom alibi": ("bloom", {}),
    "olmo2": ("olmo2", {}),
    "starcoder2": ("starcoder2", {}),
    "stablelm": ("stablelm", {}),
    "glm4": ("glm4", {}),
    "mixtral": ("mixtral", MOE | {"output_router_logits": True}),
    "gpt-oss": ("gpt_oss", MOE),
    "qwen3 moe": ("qwen3_moe", MOE | {"moe_intermediate_size": 8}),
    "minicpm3 scaled before": ("minicpm3", {"dim_model_base": 8, "num_key_value_heads": 2}),
    "mamba": ("mamba", {"state_size": 4}),
    "lfm2": ("lfm2", {"full_attn_idxs": [1]}),
}

NO_HEAD_DIM = ("falcon",)
# It attends in float32 whatever the weights are.
SINGLE_PRECISION = ("gpt-j head bias", "mamba")


def make(name: str) -> PreTrainedModel:
    return build(*ARCHITECTURES[name])


def build(kind: str, settings: dict[str, Any]) -> PreTrainedModel:
    """A small random model in which every part of the architecture shows."""
    common = {k: v for k, v in SMALL.items() if k != "head_dim" or kind not in NO_HEAD_DIM}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common | settings))
    with torch.no_grad():  # Biases start at zero, where losing one would not show.
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(std=0.5)
    return model.eval()


def with_gradients(model: nn.Module, logps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The log-probabilities, and the gradients of a sum that weighs each row differently."""
    model.zero_grad()
    (logps * torch.arange(1, len(logps) + 1, dtype=logps.dtype)).sum().backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return logps.detach(), gradients


def assert_equals_the_definition(model: nn.Module, atol: float, head: Any = "chunked") -> None:
    batch = make_batch()
    expected, expected_gradients = with_gradients(model, plain_logps(model, batch))
    logps, gradients = with_gradients(
        model, response_logps(model, batch, chunk_size=7, head=head)[0]
    )
    # Tolerances are relative to the size of what is compared.
    assert torch.allclose(logps, expected, rtol=atol, atol=atol)
    assert gradients.keys() == expected_gradients.keys()
    scale = max(gradient.abs().max() for gradient in expected_gradients.values())
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected_gradients[name], rtol=0, atol=atol * scale), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_float64(name: str) -> None:
    atol = 1e-5 if name in SINGLE_PRECISION else 1e-10
    assert_equals_the_definition(make(name).double(), atol=atol)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_float32(name: str) -> None:
    model = make(name)
    assert_equals_the_definition(model, atol=1e-5)
    assert check_head(model, make_batch(), chunk_size=7)


@pytest.mark.parametrize("name", ["gemma2 soft-capped", "mixtral", "gpt2 tied"])
def test_the_models_own_head(name: str) -> None:
    assert_equals_the_definition(make(name).double(), atol=1e-10, head="model")


@pytest.mark.parametrize("name", ["llama tied", "gpt2 tied", "gemma3 soft-capped", "mixtral"])
def test_gradient_checkpointing(name: str) -> None:
    model = make(name).double()
    model.gradient_checkpointing_enable()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert_equals_the_definition(model, atol=1e-10)
