from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from tspin.batches import StepCollator, StepSampler
from tspin.collator import TripletCollator


def sampler(size: int, **settings: int) -> StepSampler:
    defaults = {"global_batch_size": 4, "micro_batch_size": 1, "seed": 0}
    return StepSampler(size, **(defaults | settings))


def steps_of(samplers: list[StepSampler]) -> list[list[int]]:
    """The triplets of each optimiser step, over all processes, in the trainer's way of cutting."""
    full = samplers[0].passes(samplers[0].global_batch_size)
    batches = [list(each) for each in samplers]
    assert len({len(one) for one in batches}) == 1
    starts = range(0, len(batches[0]), full)
    return [[i for one in batches for b in one[at : at + full] for i in b] for at in starts]


def test_example_of_the_docstring() -> None:
    zero, one = (sampler(5, rank=rank, world_size=2) for rank in (0, 1))
    a, b, c, d, e = torch.randperm(5, generator=_generator(zero)).tolist()
    assert list(zero) == [[a], [c], [e]]
    assert list(one) == [[b], [d], []]


def _generator(of: StepSampler) -> torch.Generator:
    from tspin.seeds import derive_seed

    return torch.Generator().manual_seed(derive_seed(of.seed, "epoch", of.epoch))


@given(
    size=st.integers(1, 40),
    step=st.integers(1, 12),
    micro=st.integers(1, 12),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_steps_do_not_depend_on_processes_and_passes(
    size: int, step: int, micro: int, world: int, epoch: int
) -> None:
    shared = [
        sampler(size, global_batch_size=step, micro_batch_size=micro, rank=rank, world_size=world)
        for rank in range(world)
    ]
    alone = sampler(size, global_batch_size=step, micro_batch_size=step)
    for each in (*shared, alone):
        each.set_epoch(epoch)
        assert len(list(each)) == len(each)
        assert all(len(batch) <= each.micro_batch_size for batch in each)
    steps = steps_of(shared)
    assert [sorted(indices) for indices in steps] == [sorted(batch) for batch in alone]
    assert [sorted(alone.step_indices(epoch, at)) for at in range(alone.steps)] == [
        sorted(indices) for indices in steps
    ]
    assert sorted(i for indices in steps for i in indices) == list(range(size))


def test_epochs_and_seeds_differ() -> None:
    first, other = sampler(30), sampler(30, seed=1)
    orders = [list(first), list(other)]
    first.set_epoch(1)
    assert list(first) not in orders
    assert orders[0] != orders[1]


def test_empty_batch_counts_nothing() -> None:
    example: dict[str, Any] = {
        "id": "a",
        "prompt_ids": [1],
        "annotated_ids": [5, 6, 2],
        "synthetic_ids": [7, 2],
        "proto_synthetic_ids": None,
        "reference_logps": None,
    }
    for per_token, weight in ((False, 2), (True, 6)):
        only_annotated = example | ({"synthetic_ids": None} if per_token else {})
        collate = StepCollator(TripletCollator(0), stand_in=only_annotated, per_token=per_token)
        full, empty = collate([only_annotated] * 2), collate([])
        assert (full["items"].item(), full["ids"]) == (weight, ["a", "a"])
        assert (empty["items"].item(), empty["ids"]) == (0, [])
        assert empty["input_ids"].shape[0] == full["input_ids"].shape[0] // 2
