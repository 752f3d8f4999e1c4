"""Response log-probabilities of policies with LoRA adapters, loaded as training loads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_architectures import assert_equals_the_definition, make
from tiny_models import make_batch
from torch import nn

from tspin.config import LoraConfig, ModelConfig
from tspin.forward.head import check_head
from tspin.forward.logprobs import response_logps
from tspin.models.policy import load_policy

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
TARGETS = {
    "all linear": "all-linear",
    "with the head": ("q_proj", "v_proj", "lm_head"),
    "head only": ("lm_head",),
}
FUSED = {"gpt2 tied": ("c_attn", "c_proj", "c_fc"), "phi3": ("qkv_proj", "o_proj")}


def adapted(folder: Path, lora: LoraConfig, dtype: str = "float32") -> nn.Module:
    """A policy whose adapter is no longer the identity it starts as."""
    config = ModelConfig(path=str(folder), dtype=dtype)
    policy = load_policy(str(folder), config, device=CPU, trainable=True, lora=lora)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return policy


def saved(name: str, folder: Path) -> Path:
    make(name).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", ["llama", "llama tied", "gemma2 soft-capped"])
def test_float64(name: str, targets: str | tuple[str, ...], tmp_path: Path) -> None:
    lora = LoraConfig(r=2, target_modules=targets)
    policy = adapted(saved(name, tmp_path), lora).double()
    assert_equals_the_definition(policy, atol=1e-10)
    assert check_head(policy, make_batch(), chunk_size=7)


@pytest.mark.parametrize("name", FUSED)
def test_layers_of_other_kinds(name: str, tmp_path: Path) -> None:
    policy = adapted(saved(name, tmp_path), LoraConfig(r=2, target_modules=FUSED[name]))
    assert_equals_the_definition(policy.double().eval(), atol=1e-10)


def test_only_the_adapter_gets_gradients(tmp_path: Path) -> None:
    policy = adapted(saved("llama", tmp_path), LoraConfig(r=2, target_modules=TARGETS["head only"]))
    response_logps(policy, make_batch(), chunk_size=7)[0].sum().backward()
    got = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    assert got == {name for name, _ in policy.named_parameters() if "lora_" in name}


def test_gradient_checkpointing(tmp_path: Path) -> None:
    policy = adapted(saved("llama tied", tmp_path), LoraConfig(r=2)).double()
    policy.gradient_checkpointing_enable()
    assert_equals_the_definition(policy, atol=1e-10)


def test_dropout_on_the_heads_adapter_is_the_same_when_recomputed(tmp_path: Path) -> None:
    lora = LoraConfig(r=2, dropout=0.5, target_modules=TARGETS["head only"])
    policy = adapted(saved("llama", tmp_path), lora).double().train()
    rank = next(p for n, p in policy.named_parameters() if "lora_B" in n)

    def logps() -> torch.Tensor:
        torch.manual_seed(3)
        return response_logps(policy, make_batch(), chunk_size=7)[0].sum()

    logps().backward()
    assert rank.grad is not None
    analytic = rank.grad[5, 1].item()
    with torch.no_grad():
        rank[5, 1] += 1e-6
        above = logps()
        rank[5, 1] -= 2e-6
        below = logps()
    assert analytic == pytest.approx((above - below).item() / 2e-6, rel=1e-5)


def test_a_bfloat16_base_is_close_to_the_float32_one(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path)
    exact, tokens = response_logps(adapted(folder, LoraConfig(r=2)), make_batch(), chunk_size=7)
    policy = adapted(folder, LoraConfig(r=2), dtype="bfloat16")
    rounded, _ = response_logps(policy, make_batch(), chunk_size=7)
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded / tokens, exact / tokens, atol=0.1)
    assert check_head(policy, make_batch(), chunk_size=7)
