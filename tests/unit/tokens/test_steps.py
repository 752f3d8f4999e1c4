from __future__ import annotations

import tracemalloc
from array import array
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tspin.seeds import derive_seed
from tspin.tokens.collator import TripletCollator
from tspin.tokens.examples import Example, Examples
from tspin.tokens.packing import first_fit
from tspin.tokens.steps import PassDataset, StepCollator, StepSampler


def sampler(tokens: list[int], budget: int = 1, **settings: int) -> StepSampler:
    defaults = {"global_batch_size": 4, "seed": 0}
    return StepSampler(
        tokens,
        cut=lambda share: first_fit(share, lambda index: tokens[index], budget),
        **(defaults | settings),
    )


def test_example_of_the_docstring() -> None:
    zero, one = (sampler([1] * 5, rank=rank, world_size=2) for rank in (0, 1))
    generator = torch.Generator().manual_seed(derive_seed(zero.seed, "epoch", zero.epoch))
    a, b, c, d, e = torch.randperm(5, generator=generator).tolist()
    assert list(zero) == [sorted_passes([[a], [c]]), [[e]]]
    assert list(one) == [sorted_passes([[b], [d]]), [[]]]


def sorted_passes(passes: list[list[int]]) -> list[list[int]]:
    """As first_fit gives them: items of equal size by their number."""
    return sorted(passes)


def test_processes_get_about_the_same_number_of_tokens() -> None:
    tokens = [100, 1, 1, 98, 50, 50, 2, 2]
    both = [sampler(tokens, global_batch_size=8, rank=rank, world_size=2) for rank in (0, 1)]
    loads = [sum(tokens[i] for step in one for each in step for i in each) for one in both]
    assert sum(loads) == sum(tokens)
    assert abs(loads[0] - loads[1]) <= 2


@given(
    tokens=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    step=st.integers(1, 12),
    budget=st.integers(1, 30),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_steps_do_not_depend_on_processes_and_passes(
    tokens: list[int], step: int, budget: int, world: int, epoch: int
) -> None:
    shared = [
        sampler(tokens, budget, global_batch_size=step, rank=rank, world_size=world)
        for rank in range(world)
    ]
    alone = sampler(tokens, 10_000, global_batch_size=step)
    for each in (*shared, alone):
        each.set_epoch(epoch)
        assert len(list(each)) == len(each)
    every = [list(each) for each in shared]
    found = []
    for passes in zip(*every, strict=True):
        # As many passes on every process: each waits for the others in it.
        assert len({len(one) for one in passes}) == 1
        found.append(sorted(index for one in passes for each in one for index in each))
    assert found == [sorted(index for each in one for index in each) for one in alone]
    assert found == [sorted(alone.step_indices(epoch, at)) for at in range(len(alone))]
    assert sorted(index for indices in found for index in indices) == list(range(len(tokens)))


def test_epochs_and_seeds_differ() -> None:
    first, other = sampler([1] * 30), sampler([1] * 30, seed=1)
    orders = [list(first), list(other)]
    first.set_epoch(1)
    assert list(first) not in orders
    assert orders[0] != orders[1]


def test_memory_holds_no_object_for_each_triplet() -> None:
    count = 20_000
    tokens = array("i", [1]) * count
    one = StepSampler(tokens, global_batch_size=100, cut=lambda share: [share], seed=0)
    tracemalloc.start()
    steps = sum(1 for _ in one)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert steps == count / 100
    assert held < count


def example(identity: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "prompt_ids": [1],
        "annotated_ids": [5, 6, 2],
        "synthetic_ids": [7, 2],
        "proto_synthetic_ids": None,
        "reference_logps": None,
    } | changes


def test_empty_pass_counts_nothing() -> None:
    for per_token, weight in ((False, 2), (True, 6)):
        given = example("a", **({"synthetic_ids": None} if per_token else {}))
        collate = StepCollator(TripletCollator(0), stand_in=given, per_token=per_token)
        full, empty = collate([[given] * 2, []])["passes"]
        assert (full["items"].item(), full["ids"]) == (weight, ["a", "a"])
        assert (empty["items"].item(), empty["ids"]) == (0, [])
        assert empty["input_ids"].shape[0] == full["input_ids"].shape[0] // 2
        assert ("identical" in full) == (not per_token)


def test_identical_responses_are_marked() -> None:
    same = example("b", synthetic_ids=[5, 6, 2])
    collate = StepCollator(TripletCollator(0), stand_in=same, per_token=False)
    (batch,) = collate([[example("a"), same]])["passes"]
    assert batch["identical"].tolist() == [False, True]


def test_a_dataset_of_passes() -> None:
    ids = np.array([5, 2], dtype=np.int32)
    rows = [Example(i, ids, (ids,) * (1 + n), samples=n) for i, n in (("a", 1), ("b", 2))]
    items = PassDataset(Examples(rows))[[1, 0]]
    assert [(item["id"], item.get("sample")) for item in items] == [("b", 0), ("b", 1), ("a", None)]


def test_samples_of_a_prompt_are_one_triplet_of_a_step() -> None:
    given = [example("a", sample=0), example("a", sample=1, synthetic_ids=[5, 6, 2]), example("b")]
    collate = StepCollator(TripletCollator(0), stand_in=example("b"), per_token=False)
    (batch,) = collate([given])["passes"]
    assert (batch["items"].item(), batch["ids"]) == (2, ["a", "b"])
    assert batch["weights"].tolist() == [0.5, 0.5, 1.0]
    assert batch["identical"].tolist() == [False, True, False]
