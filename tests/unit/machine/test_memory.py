"""The estimate: its arithmetic by hand, and the sizes it is made from against real models."""

from __future__ import annotations

from typing import Any

import pytest

from tspin.config import RunConfig
from tspin.machine.memory import Hardware, estimate_memory, responses_per_triplet
from tspin.models.shape import ModelShape

CPU = Hardware(gpu=False, bfloat16=False, processes=1)
GPU = Hardware(gpu=True, bfloat16=True, processes=1)

SHAPE = ModelShape(
    parameters=1_000_000,
    largest=200_000,
    adapter_parameters=0,
    layers=3,
    hidden=10,
    intermediate=40,
    heads=2,
    attention_width=20,
    vocabulary=500,
    attention="sdpa",
)


def config(**sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run_dir": "r",
        "iterations": 2,
        "model": {"path": "m"},
        "data": {"annotated": "a"},
        "prompt": {"max_length": 100},
        "generate": {"max_new_tokens": 50},
        "train": {"global_batch_size": 4},
        "system": {"tokens_per_device": 600, "logps_chunk_size": 50},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return RunConfig.model_validate(values)


def with_shape(**changes: Any) -> ModelShape:
    return ModelShape(**{**SHAPE.__dict__, **changes})


def test_full_training_on_a_cpu_by_hand() -> None:
    estimate = estimate_memory(SHAPE, config(), CPU)
    # 3 responses of 2 triplets at 100 tokens: N = 600; 4 bytes a number.
    inner = 16 * 10 + 4 * (5 * 10 + 4 * 20 + 4 * 40) + 4 * 100
    assert estimate.parts() == {
        "overhead": int(0.4 * 2**30) + 600 * 3 * inner,
        "weights": 4_000_000,
        "gradients": 4_000_000,
        "optimizer": 4_000_000,
        "activations": 600 * 3 * inner,
        "step": 1_600_000,
        "head": 50 * 500 * 12 + 600 * 4 * 10,
        "exchange": 0,
        "casts": 0,
    }
    forward = estimate.activations + estimate.head
    assert estimate.total == 12_000_000 + estimate.overhead + max(forward, 1_600_000)


def test_bfloat16_on_gpus_with_adamw_and_checkpointing_by_hand() -> None:
    settings = config(
        train={"optimizer": "adamw", "method": "spin"}, system={"gradient_checkpointing": True}
    )
    hardware = Hardware(gpu=True, bfloat16=True, processes=8)
    estimate = estimate_memory(SHAPE, settings, hardware)
    # A pass of 600 tokens: three triplets of 2 responses; 2 bytes a number.
    inner = 16 * 10 + 2 * (5 * 10 + 4 * 20 + 4 * 40) + 2 * 100
    assert (estimate.weights, estimate.gradients, estimate.optimizer) == (4e6, 4e6, 8e6)
    assert (estimate.exchange, estimate.casts, estimate.step) == (4e6, 2e6, 4e6)
    assert estimate.activations == 600 * (3 * 4 * 10 + inner)
    assert estimate.head == 50 * 500 * 10 + 600 * 2 * 10
    bare = 20_000_000 + max(2_000_000 + estimate.activations + estimate.head, 4_000_000)
    assert estimate.total == bare + 2**30 + bare // 20


def test_lora_by_hand() -> None:
    shape = with_shape(adapter_parameters=5_000)
    plain = estimate_memory(shape, config(train={"lora": {}}), GPU)
    assert (plain.weights, plain.gradients, plain.optimizer) == (2_020_000, 20_000, 20_000)
    assert (plain.casts, plain.step) == (0, 20_000)
    dropped = estimate_memory(shape, config(train={"lora": {"dropout": 0.1}}), GPU)
    assert dropped.activations - plain.activations == 600 * 3 * (1 + 2) * (6 * 10 + 40)


def test_packed_rows_keep_no_mask() -> None:
    sdpa = estimate_memory(SHAPE, config(), CPU).activations
    tree = estimate_memory(with_shape(attention="tree"), config(), CPU).activations
    assert sdpa - tree == 600 * 3 * 4 * 100


@pytest.mark.parametrize(("budget", "tokens"), [(1, 300), (300, 300), (700, 700), (10**6, 1200)])
def test_tokens_a_pass_are_the_budget_between_a_triplet_and_a_step(
    budget: int, tokens: int
) -> None:
    estimate = estimate_memory(SHAPE, config(system={"tokens_per_device": budget}), CPU)
    assert estimate.head == 50 * 500 * 12 + tokens * 4 * 10


def test_eager_attention_keeps_its_matrix() -> None:
    sdpa = estimate_memory(SHAPE, config(), CPU).activations
    eager = estimate_memory(with_shape(attention="eager"), config(), CPU).activations
    assert eager - sdpa == 600 * 3 * (2 * 100 * 4 - 4 * 100)


@pytest.mark.parametrize(
    ("train", "iterations", "responses"),
    [
        ({"method": "sft"}, 3, 1),
        ({"method": "spin"}, 3, 2),
        ({"method": "tspin_no_history"}, 3, 2),
        ({"method": "tspin"}, 3, 3),
        ({"method": "tspin_ref"}, 3, 3),
        ({"method": "tspin"}, 1, 2),
        ({"method": "tspin", "beta": 0}, 3, 2),
    ],
)
def test_responses_a_triplet(train: dict[str, Any], iterations: int, responses: int) -> None:
    settings = config(train=train).model_copy(update={"iterations": iterations})
    assert responses_per_triplet(settings) == responses


def test_seven_billion_parameters_as_the_papers_train_them() -> None:
    mistral = ModelShape(
        parameters=7_241_732_096,
        largest=131_072_000,
        adapter_parameters=0,
        layers=32,
        hidden=4096,
        intermediate=14336,
        heads=32,
        attention_width=4096,
        vocabulary=32000,
        attention="sdpa",
    )
    settings = config(
        prompt={"max_length": 2048},
        train={"global_batch_size": 64},
        system={
            "tokens_per_device": 8 * 3 * 2048,
            "gradient_checkpointing": True,
            "logps_chunk_size": 1024,
        },
    )
    hardware = Hardware(gpu=True, bfloat16=True, processes=8)
    full = estimate_memory(mistral, settings, hardware).total
    # Unsharded float32 weights, gradients, state and buckets alone are 116 GB.
    assert 116e9 < full < 200e9
    adapted = ModelShape(**{**mistral.__dict__, "adapter_parameters": 42_000_000})
    small = config(
        prompt={"max_length": 2048},
        train={"global_batch_size": 64, "lora": {}},
        system={"tokens_per_device": 2 * 3 * 2048, "gradient_checkpointing": True},
    )
    assert 15e9 < estimate_memory(adapted, small, hardware).total < 40e9
