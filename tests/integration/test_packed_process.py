"""Packed rows in real processes: two of them, under the wrappers of distributed training."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from test_packed_architectures import PACKED, PADDED, examples
from tiny_models import llama
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaForCausalLM

from tests import warm
from tspin.forward.passes import ForwardPasses
from tspin.losses import tspin_loss

pytestmark = pytest.mark.integration


def model_of(*, checkpointing: bool) -> LlamaForCausalLM:
    model = llama().double()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    return model


def backward(model: nn.Module, passes: ForwardPasses, given: list[dict[str, Any]]) -> None:
    logps, _ = passes.logps(model, passes.collate(given))
    tspin_loss(*logps.view(3, -1), alpha=0.1, beta=0.3).loss.backward()


def wrapped(kind: str, model: LlamaForCausalLM) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    for layer in model.model.layers:
        fully_shard(layer)
    return fully_shard(model)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    return {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in found.items()}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
    )
    for kind in ("ddp", "fsdp"):
        inner = model_of(checkpointing=True)
        model = wrapped(kind, inner)
        with PACKED.on(inner):
            backward(model, PACKED, examples()[2 * rank : 2 * rank + 2])
        save_file(gradients(model), f"{folder}/{kind}-{rank}.safetensors")
        # None may outlive the group: see `one_of_two` of test_logprobs_process.py.
        del inner, model
        gc.collect()
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    warm.spawn(one_of_two, str(tmp_path), processes=2)
    model = model_of(checkpointing=False)
    backward(model, PADDED, examples())
    for kind in ("ddp", "fsdp"):
        for rank in range(2):
            found = load_file(tmp_path / f"{kind}-{rank}.safetensors")
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(
                    found[name], parameter.grad, rtol=1e-5, atol=1e-7, msg=f"{kind}: {name}"
                )
