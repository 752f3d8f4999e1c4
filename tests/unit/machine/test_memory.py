"""The estimate: its arithmetic by hand, and the sizes it is made from against real models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tspin.config import GenerateConfig, RunConfig
from tspin.machine.memory import Hardware, estimate_memory, responses_per_triplet, sharded
from tspin.models.shape import ModelShape

CPU = Hardware(gpu=False, bfloat16=False, processes=1)
GPU = Hardware(gpu=True, bfloat16=True, processes=1)

SHAPE = ModelShape(
    parameters=1_000_000,
    largest=200_000,
    adapter_parameters=0,
    linear=600_000,
    layer=210_000,
    embedding=180_000,
    root=190_000,
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
        "head": 50 * 500 * 8 + 600 * 500 * 4 + 600 * 4 * 10,
        "exchange": 0,
        "casts": 0,
        "root": 0,
        "gathered": 0,
        "ends": 0,
        "recomputed": 0,
    }
    forward = estimate.activations + estimate.head
    assert estimate.total == 12_000_000 + estimate.overhead + max(forward, 1_600_000)


def test_bfloat16_on_gpus_with_adamw_and_checkpointing_by_hand() -> None:
    settings = config(
        train={"optimizer": "adamw", "method": "spin"}, system={"gradient_checkpointing": True}
    )
    hardware = Hardware(gpu=True, bfloat16=True, processes=8)
    estimate = estimate_memory(SHAPE, settings, hardware)
    # A process has one triplet of a step's four, of 2 responses: N = 200; 2 bytes a number.
    inner = 16 * 10 + 2 * (5 * 10 + 4 * 20 + 4 * 40) + 2 * 100
    assert (estimate.weights, estimate.gradients, estimate.optimizer) == (4e6, 4e6, 8e6)
    assert (estimate.exchange, estimate.casts, estimate.step) == (4e6, 2e6, 4e6)
    assert (estimate.activations, estimate.recomputed) == (200 * 3 * 4 * 10, 200 * (inner + 2 * 40))
    # The logarithms of all 200 positions are less than 256 MiB, and kept.
    assert estimate.head == 50 * 500 * 6 + 200 * 500 * 4 + 200 * 2 * 10
    forward = estimate.activations + max(estimate.recomputed, estimate.head)
    bare = 20_000_000 + max(2_000_000 + forward, 4_000_000)
    assert estimate.total == bare + 2**30 + bare // 20


def test_lora_by_hand() -> None:
    shape = with_shape(adapter_parameters=5_000)
    plain = estimate_memory(shape, config(train={"lora": {}}), GPU)
    assert (plain.weights, plain.gradients, plain.optimizer) == (2_020_000, 20_000, 20_000)
    assert (plain.casts, plain.step) == (0, 20_000)
    # Inputs of their own have adapted layers where they drop some, and where they cast them.
    inputs = 600 * 3 * (6 * 10 + 40)
    settings = config(train={"lora": {"dropout": 0.1}})
    for hardware, size in ((GPU, 1), (CPU, 1 + 4), (replace(GPU, processes=8, shards=8), 1 + 2)):
        plain = estimate_memory(shape, config(train={"lora": {}}), hardware)
        dropped = estimate_memory(shape, settings, hardware)
        share = 600 if hardware.processes == 1 else 300
        assert dropped.activations - plain.activations == size * inputs * share // 600
    cast = estimate_memory(shape, config(train={"lora": {}}), GPU).activations
    bare = estimate_memory(SHAPE, config(), GPU).activations
    assert cast - bare == 2 * inputs


def test_sharded_over_eight_gpus_by_hand() -> None:
    settings = config(train={"optimizer": "adamw"})
    hardware = replace(GPU, processes=8, shards=8)
    full = estimate_memory(SHAPE, settings, hardware)
    assert (full.weights, full.gradients, full.optimizer) == (5e5, 5e5, 1e6)
    assert (full.exchange, full.casts, full.step) == (0, 0, 5e5)
    # Root and two layers in 2 bytes, gradients of root and layer in 2, of the layer in 4 more.
    assert (full.root, full.gathered) == (4 * 190_000, 4 * 210_000 + 6 * 210_000)
    forward = full.root + full.activations + max(full.gathered, full.head)
    assert full.total == 2_000_000 + forward + full.overhead
    adapted = estimate_memory(with_shape(adapter_parameters=8_000), settings, hardware)
    assert (adapted.weights, adapted.gradients, adapted.step) == (254_000, 4_000 + 32_000, 4_000)
    assert (adapted.root, adapted.gathered) == (2 * 190_000, 4 * 210_000)
    assert (full.ends, adapted.ends) == (4 * 190_000 + 8 * 210_000 + 2 * 180_000, 4 * 370_000)
    root, embedding = (
        estimate_memory(with_shape(layer=1, **{name: 10**8}), settings, hardware)
        for name in ("root", "embedding")
    )
    assert (root.ends, embedding.ends) == (8e8 + 4, 4 * 190_000 + 8e8)
    assert embedding.total == embedding.stays + embedding.ends + embedding.overhead


def test_sharded_on_a_cpu() -> None:
    hardware = replace(CPU, processes=2, shards=2)
    estimate = estimate_memory(SHAPE, config(), hardware)
    assert (estimate.weights, estimate.gradients, estimate.step) == (2e6, 2e6, 800_000)
    assert (estimate.root, estimate.gathered) == (8 * 190_000, 16 * 210_000)


def test_offloaded_states_leave_the_gpu() -> None:
    hardware = replace(GPU, processes=8, shards=8, offloaded=True)
    estimate = estimate_memory(SHAPE, config(), hardware)
    assert (estimate.stays, estimate.step) == (0, 0)
    assert estimate.gathered > 0


def test_four_bits_for_all_linear_layers_but_the_head() -> None:
    settings = config(model={"quantize": "nf4"}, train={"lora": {}})
    estimate = estimate_memory(with_shape(adapter_parameters=5_000), settings, GPU)
    assert estimate.weights == 2 * 400_000 + 600_000 * (1 / 2 + 1 / 64 + 1 / 4096) // 1 + 20_000
    assert estimate.casts == 2 * 200_000


EIGHT = replace(GPU, processes=8)


@pytest.mark.parametrize(
    ("hardware", "system", "shards"),
    [
        (GPU, {"shard": "on"}, 1),
        (EIGHT, {"shard": "on"}, 8),
        (EIGHT, {"shard": "off"}, 1),
        (replace(EIGHT, nodes=2), {"shard": "on"}, 8),
        (replace(EIGHT, nodes=2), {"shard": "on", "shard_over": "all"}, 16),
        (replace(GPU, nodes=2), {"shard": "on"}, 1),
        (replace(GPU, nodes=2), {"shard": "on", "shard_over": "all"}, 2),
        (replace(CPU, processes=2), {"shard": "on"}, 2),
    ],
)
def test_over_how_many_processes(hardware: Hardware, system: dict[str, Any], shards: int) -> None:
    settings = config(system={**system, "offload": True})
    for memory in (0, 2**40):
        answer = sharded(SHAPE, settings, hardware, memory)
        assert (answer.shards, answer.offloaded) == (shards, shards > 1 and hardware.gpu)
        assert replace(answer, shards=1, offloaded=False) == hardware


@pytest.mark.parametrize("hardware", [EIGHT, replace(CPU, processes=8)])
def test_auto_shards_what_would_not_fit(hardware: Hardware) -> None:
    needed = estimate_memory(SHAPE, config(), hardware).total
    assert sharded(SHAPE, config(), hardware, needed).shards == 1
    assert sharded(SHAPE, config(), hardware, needed - 1).shards == 8
    # What it is told of an earlier decision does not count.
    assert sharded(SHAPE, config(), replace(hardware, shards=8), needed).shards == 1


def test_auto_never_shards_what_cannot_be() -> None:
    assert sharded(with_shape(layer=0), config(), EIGHT, 0).shards == 1
    four_bits = config(model={"quantize": "nf4"}, train={"lora": {}})
    assert sharded(with_shape(adapter_parameters=5_000), four_bits, EIGHT, 0).shards == 1


def test_checkpoints_of_an_adapters_training_are_in_the_precision_of_the_frozen_weights() -> None:
    one, two = (
        estimate_memory(
            with_shape(adapter_parameters=5_000, layers=layers),
            config(train={"lora": {}}, system={"gradient_checkpointing": True}),
            GPU,
        )
        for layers in (1, 2)
    )
    assert two.activations - one.activations == 600 * 2 * 10
    # Inner values, inputs cast, and gradients of what is cast.
    inner = 16 * 10 + 2 * (5 * 10 + 4 * 20 + 4 * 40) + 2 * 100
    assert one.recomputed == 600 * (inner + 2 * (6 * 10 + 40) + (2 + 2 + 4) * 40)


def test_packed_rows_keep_no_mask() -> None:
    sdpa = estimate_memory(SHAPE, config(), CPU).activations
    tree = estimate_memory(with_shape(attention="tree"), config(), CPU).activations
    assert sdpa - tree == 600 * 3 * 4 * 100


@pytest.mark.parametrize(("budget", "tokens"), [(1, 300), (300, 300), (700, 700), (10**6, 1200)])
def test_tokens_a_pass_are_the_budget_between_a_triplet_and_a_step(
    budget: int, tokens: int
) -> None:
    estimate = estimate_memory(SHAPE, config(system={"tokens_per_device": budget}), CPU)
    assert estimate.head == 50 * 500 * 8 + tokens * 500 * 4 + tokens * 4 * 10


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
        ({"method": "sdft"}, 3, 2),
        ({"method": "tspin_all"}, 1, 2),
        ({"method": "tspin_all"}, 2, 3),
        ({"method": "tspin_all"}, 5, 6),
        ({"method": "tspin_ref"}, 3, 3),
        ({"method": "tspin"}, 1, 2),
        ({"method": "tspin", "beta": 0}, 3, 2),
    ],
)
def test_responses_a_triplet(train: dict[str, Any], iterations: int, responses: int) -> None:
    settings = config(train=train).model_copy(update={"iterations": iterations})
    assert responses_per_triplet(settings) == responses
    several = settings.model_copy(update={"generate": GenerateConfig(samples=4)})
    further = 0 if train["method"] == "sft" else 3
    assert responses_per_triplet(several) == responses + further


def test_no_more_logarithms_are_kept_than_a_chunk_of_a_large_vocabulary() -> None:
    settings = config(system={"logps_chunk_size": 50})
    small, large = (
        estimate_memory(with_shape(vocabulary=vocabulary), settings, CPU)
        for vocabulary in (100_000, 10_000_000)
    )
    hidden = 600 * 4 * 10
    assert small.head - hidden == 100_000 * (50 * 8 + 600 * 4)
    assert large.head - hidden == 10_000_000 * (50 * 8 + 50 * 4)


def test_a_teacher_is_another_copy_of_what_is_trained() -> None:
    space, sdft = (config(train={"method": method}) for method in ("space", "sdft"))
    for shape in (SHAPE, with_shape(adapter_parameters=10_000)):
        other, ours = (estimate_memory(shape, one, CPU) for one in (space, sdft))
        assert ours.weights - other.weights == 4 * (shape.adapter_parameters or shape.parameters)
        assert ours.head - other.head == 50 * 500 * 28
        assert ours.activations == other.activations
    gpus = Hardware(gpu=True, bfloat16=True, processes=4)
    assert [sharded(SHAPE, one, gpus, 2**20).shards for one in (space, sdft)] == [4, 4]


def test_a_teachers_shards_are_its_own() -> None:
    space, sdft = (config(train={"method": method}) for method in ("space", "sdft"))
    gpus = Hardware(gpu=True, bfloat16=True, processes=4, shards=4)
    for shape in (SHAPE, with_shape(adapter_parameters=10_000)):
        other, ours = (estimate_memory(shape, one, gpus) for one in (space, sdft))
        adapter = shape.adapter_parameters
        copied = 2 * shape.parameters + 4 * adapter if adapter else 4 * shape.parameters
        assert ours.weights - other.weights == copied // 4
        assert (ours.gradients, ours.optimizer) == (other.gradients, other.optimizer)
        assert ours.root - other.root == ours.ends - other.ends == 2 * shape.root
        assert ours.gathered == other.gathered
