"""Folders with full weights and with adapters, for the tests of the policy."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tspin.config import LoraConfig, ModelConfig
from tspin.models.policy import load_policy, save_policy

CPU = torch.device("cpu")
IDS = torch.arange(4, 20)[None]


def config(path: Path, **changes: object) -> ModelConfig:
    return ModelConfig.model_validate({"path": str(path), **changes})


def nudge(policy: nn.Module) -> None:
    """Change everything that is trained, as a step of training does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def logits(policy: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = policy(IDS).logits
    return result


def save_adapter(base: Path, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A folder with an adapter that changes the policy."""
    policy = load_policy(str(base), config(base), device=CPU, trainable=True, lora=LoraConfig(r=2))
    nudge(policy)
    save_policy(policy, tokenizer, folder)
    return folder
