"""The estimate of sharded training against torch's own count of a packed step's tensors.

Nothing is allocated: tensors are fake, and so are the other processes. The count knows no
allocator and no CUDA context, which are the estimate's overhead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch
import torch.distributed
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.architectures import ARCHITECTURES
from tspin.attention.redirection import causal_model
from tspin.config import LoraConfig, RunConfig
from tspin.forward import logprobs
from tspin.forward.passes import ForwardPasses
from tspin.forward.response_tokens import ResponseTokens
from tspin.losses import tspin_loss
from tspin.machine.memory import Hardware, estimate_memory
from tspin.models.shape import shape_of
from tspin.tokens.packing import pack

pytestmark = pytest.mark.integration

FULL: dict[str, Any] = {}
LORA = {"lora": {"r": 16}}
LENGTH = 1366
"""Tokens a response and its prompt: 4,096 a pass."""


@pytest.fixture
def processes(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many, all but this one fake: what they are sent is nowhere."""
    torch.distributed.init_process_group(
        "fake", store=FakeStore(), rank=0, world_size=request.param
    )
    yield request.param
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("processes", "train", "checkpointed"),
    [(8, FULL, True), (2, FULL, False), (2, LORA, True), (8, LORA, False)],
    indirect=["processes"],
)
def test_the_estimate_is_at_most_two_fifths_above_the_simulated_peak(
    monkeypatch: pytest.MonkeyPatch, processes: int, train: dict[str, Any], checkpointed: bool
) -> None:
    ratio = compared(monkeypatch, "Mistral-7B", processes, train, checkpointed=checkpointed)
    assert 1.0 < ratio < 1.4


@pytest.mark.parametrize(
    ("processes", "architecture", "train", "length"),
    [
        (8, "Llama-3.1-70B", LORA, 64),
        (8, "Llama-3.2-1B", FULL, 64),
        (8, "Llama-3.2-1B", FULL, LENGTH),
    ],
    ids=["an embedding larger than a layer", "tied weights", "a head larger than a layer"],
    indirect=["processes"],
)
def test_what_is_gathered_around_the_layers_counts(
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    architecture: str,
    train: dict[str, Any],
    length: int,
) -> None:
    ratio = compared(monkeypatch, architecture, processes, train, length=length)
    assert 1.0 < ratio < 1.4


def compared(
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    processes: int,
    train: dict[str, Any],
    *,
    checkpointed: bool = True,
    length: int = LENGTH,
) -> float:
    """The estimate over the simulated peak, of four layers."""
    config = RunConfig.model_validate(
        {
            "run_dir": "r",
            "iterations": 2,
            "model": {"path": "m", "dtype": "bfloat16"},
            "data": {"annotated": "a"},
            "prompt": {"max_length": length},
            "generate": {"max_new_tokens": 2},
            "train": train,
            "system": {
                "tokens_per_device": 3 * length,
                "gradient_checkpointing": checkpointed,
            },
        }
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**{**ARCHITECTURES[architecture], "num_hidden_layers": 4}),
            dtype=torch.bfloat16 if config.train.lora else torch.float32,
        )
    hardware = Hardware(gpu=True, bfloat16=True, processes=processes, shards=processes)
    shape = shape_of(model, config.train.lora)
    estimate = estimate_memory(shape, config, hardware)
    simulated = peak(monkeypatch, model, config, length)
    # The step of the optimiser is not simulated.

    bare = replace(estimate, step=0, overhead=0)
    return bare.total / simulated


def peak(
    monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel, config: RunConfig, length: int
) -> int:
    """Bytes of all tensors of one process at most, in a forward and backward pass."""
    # Where the tokens are is read from the tensors' values, which fake ones do not have.
    monkeypatch.setattr(logprobs, "ResponseTokens", real_response_tokens)
    batch = pack([([1], [[token] * (length - 1) for token in (2, 3, 4)])])
    policy = sharded(with_adapter(model, config.train.lora))
    if config.system.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.enable_input_require_grads()
    passes = ForwardPasses(0, packed=True, chunk_size=config.system.logps_chunk_size)
    with FakeTensorMode(allow_non_fake_inputs=True):
        policy.to_empty(device="cpu")
        optimizer = stepped(policy, config)
        tracker = FSDPMemTracker(policy, optimizer)
        with tracker, passes.on(policy):
            with torch.autocast("cpu", torch.bfloat16):
                logps, _ = passes.logps(policy, batch)
            tspin_loss(*logps.view(3, -1), alpha=1.0, beta=0.1).loss.backward()
    (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    return int(snapshot["Total"])


def real_response_tokens(batch: dict[str, Any]) -> ResponseTokens:
    with unset_fake_temporarily():
        return ResponseTokens(batch)


def with_adapter(model: PreTrainedModel, lora: LoraConfig | None) -> nn.Module:
    if lora is None:
        return model
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=lora.r, target_modules="all-linear")
    with torch.device("meta"):
        return peft.get_peft_model(model, settings)


def sharded(policy: nn.Module) -> Any:
    """Layers and an untied embedding by themselves, all else in the root."""
    causal = causal_model(policy)
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    settings: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        ),
    }
    for module in list(causal.modules()):
        if type(module).__name__ in set(causal._no_split_modules or ()):
            fully_shard(module, reshard_after_forward=True, **settings)
    embedding, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    if embedding.weight is not head.weight:
        fully_shard(embedding, reshard_after_forward=True, **settings)
    if embedding.weight.dtype == torch.float32:
        embedding.register_forward_hook(lambda _module, _inputs, output: output.float())
    fully_shard(policy, reshard_after_forward=False, **settings)
    return policy.train()


def stepped(policy: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """An optimiser that has its state already."""
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    kind = torch.optim.AdamW if config.train.optimizer == "adamw" else torch.optim.RMSprop
    optimizer = kind(trained, lr=1e-6)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer
