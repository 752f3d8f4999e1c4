"""Which triplets each optimiser step, process and forward pass gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from tspin.seeds import derive_seed

__all__ = ["StepCollator", "StepSampler"]


class StepSampler(Sampler[list[int]]):
    """Batch sampler that fixes what an optimiser step is made of before it is shared out.

    Each epoch is a permutation from seed and epoch alone, cut into steps of `global_batch_size`
    triplets, the last step taking what is left. A step's triplets are dealt out over the
    processes in turn, and each process's share is cut into forward passes. So a step has the
    same triplets whatever the number of processes and the size of a forward pass, and every
    triplet is used exactly once an epoch. All processes make the same number of forward passes:
    where one has no triplet left, its batch is empty (see `StepCollator`), never repeated.

    Example:
        5 triplets, steps of 4, two processes, 1 a forward pass: process 0 gets [a] [c] | [e],
        process 1 gets [b] [d] | [].
    """

    def __init__(
        self,
        size: int,
        *,
        global_batch_size: int,
        micro_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size = size
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        return -(-self.size // self.global_batch_size)

    def passes(self, triplets: int) -> int:
        """Forward passes of each process in a step of so many triplets."""
        largest_share = -(-triplets // self.world_size)
        return -(-largest_share // self.micro_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; the trainer calls it at the start of each epoch."""
        self.epoch = epoch

    def step_indices(self, epoch: int, step: int) -> list[int]:
        """Indices of all triplets in one optimiser step, over all processes."""
        start = step * self.global_batch_size
        return self._order(epoch)[start : start + self.global_batch_size]

    def __len__(self) -> int:
        last = self.size - (self.steps - 1) * self.global_batch_size
        return (self.steps - 1) * self.passes(self.global_batch_size) + self.passes(last)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order(self.epoch)
        for start in range(0, self.size, self.global_batch_size):
            step = order[start : start + self.global_batch_size]
            share = step[self.rank :: self.world_size]
            for at in range(self.passes(len(step))):
                yield share[at * self.micro_batch_size : (at + 1) * self.micro_batch_size]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", epoch))
        indices: list[int] = torch.randperm(self.size, generator=generator).tolist()
        return indices


class StepCollator:
    """Adds to a collated batch what the loss is divided by, and the ids for messages.

    An empty batch becomes one example that counts nothing: the process still runs forward and
    backward, as the others wait for it there.
    """

    def __init__(
        self,
        collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
        *,
        stand_in: dict[str, Any],
        per_token: bool,
    ) -> None:
        self._collator = collator
        self._stand_in = stand_in
        self._per_token = per_token

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The collator's batch with `items` (scalar: triplets, or tokens for sft) and `ids`."""
        batch = self._collator(examples or [self._stand_in])
        weight = batch["response_mask"].sum() if self._per_token else torch.tensor(len(examples))
        batch["items"] = weight if examples else torch.tensor(0)
        batch["ids"] = [example["id"] for example in examples]
        return batch
