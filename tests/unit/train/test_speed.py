"""What is counted of a training step, and what is made of it."""

from __future__ import annotations

import pytest
import torch
from tiny_models import llama
from torch.utils.flop_counter import FlopCounterMode

from tspin.forward.flops import PassFlops
from tspin.forward.passes import ForwardPasses
from tspin.train.metrics import Speed

TRIPLETS = [
    {
        "id": name,
        "prompt_ids": [1] * prompt,
        "annotated_ids": [5] * 4 + [2],
        "synthetic_ids": [6] * 9 + [2],
        "proto_synthetic_ids": [7] * 2 + [2],
    }
    for name, prompt in (("a", 6), ("b", 3))
]


def batch_of(*, packed: bool) -> dict[str, object]:
    return ForwardPasses(0, packed=packed).collate(TRIPLETS) | {"ids": ["a", "b"]}


@pytest.mark.parametrize("packed", [True, False])
def test_operations_are_those_that_torch_counts(packed: bool) -> None:
    # One chunk, so that nothing is computed twice. torch counts whole squares of attention.
    model = llama()
    passes = ForwardPasses(0, packed=packed)
    batch = passes.collate(TRIPLETS)
    flops = PassFlops.of_model(model)
    with passes.on(model), FlopCounterMode(display=False) as counter:
        passes.logps(model, batch)[0].sum().backward()
    counts = counter.get_flop_counts()["Global"]
    matrices = sum(count for name, count in counts.items() if str(name) in ("aten.mm", "aten.bmm"))
    without_attention = PassFlops(flops.body, flops.head, 0, trained=True)
    norms = sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
    mask = batch.get("attention_mask")
    tokens = batch["input_ids"].numel() if mask is None else int(mask.sum())
    counted = without_attention.of(batch) - 6 * norms * tokens
    # Padding is computed, and does not count.
    assert counted == matrices if packed else counted < matrices


def test_attention_by_hand() -> None:
    flops = PassFlops(body=0, head=0, attention=10, trained=True)
    pairs = 0
    for prompt in (6, 3):
        pairs += prompt * (prompt + 1) // 2
        pairs += sum(own * prompt + own * (own + 1) // 2 for own in (4, 9, 2))
    assert flops.of(batch_of(packed=True)) == 3 * 4 * 10 * pairs
    padded = sum(
        n * (n + 1) // 2 for prompt in (6, 3) for n in (prompt + 5, prompt + 10, prompt + 3)
    )
    assert flops.of(batch_of(packed=False)) == 3 * 4 * 10 * padded


def test_frozen_weights_take_no_gradients() -> None:
    model = llama().requires_grad_(False)
    frozen, trained = PassFlops.of_model(model), PassFlops.of_model(llama())
    assert (frozen.trained, trained.trained) == (False, True)
    batch = batch_of(packed=True)
    attention = PassFlops(0, 0, trained.attention, trained=True).of(batch)
    assert (frozen.of(batch) - attention) * 3 == (trained.of(batch) - attention) * 2


def test_speeds_of_all_processes() -> None:
    speed = Speed(PassFlops.of_model(llama()), torch.device("cpu"), torch.float32)
    assert speed.drain(lambda sums: sums, 1) == {}
    speed.begin()
    speed.add(batch_of(packed=False))
    speed.add(batch_of(packed=False) | {"ids": []})  # Stands in, and counts nothing.
    found = speed.drain(lambda sums: 2 * sums, 2)
    assert found.keys() == {
        "speed/tokens_per_second", "speed/triplets_per_second", "speed/padding"
    }  # fmt: skip
    tokens = 3 * (6 + 3) + 2 * (5 + 10 + 3)
    assert found["speed/padding"] == pytest.approx(1 - tokens / (2 * 6 * 16))
    assert found["speed/tokens_per_second"] / found["speed/triplets_per_second"] == pytest.approx(
        tokens / 2
    )
    assert speed.drain(lambda sums: sums, 1) == {}
