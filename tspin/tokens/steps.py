"""Which triplets each optimiser step, process and forward pass gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tspin.seeds import derive_seed
from tspin.tokens.examples import Examples

__all__ = ["PassDataset", "StepCollator", "StepSampler"]

Pass = list[int]
"""Indices of the examples of one forward pass."""


class StepSampler(Sampler[list[Pass]]):
    """Batch sampler that fixes what an optimiser step is made of before it is shared out.

    Each epoch is a permutation from seed and epoch alone, cut into steps of `global_batch_size`
    triplets, the last step taking what is left. A step's triplets are dealt out over the
    processes, the largest first, each to the process with the fewest tokens so far; each
    process's share is cut into forward passes. So a step has the same triplets whatever the
    number of processes and the size of a forward pass, and every triplet is used exactly once an
    epoch. All processes make the same number of forward passes: where one has none left, its pass
    is empty (see `StepCollator`), never repeated.

    Example:
        5 triplets of equal size, steps of 4, two processes, 1 a forward pass: process 0 gets
        [[a], [c]] and [[e]], process 1 gets [[b], [d]] and [[]].
    """

    def __init__(
        self,
        tokens: Sequence[int],
        *,
        global_batch_size: int,
        cut: Callable[[list[int]], list[Pass]],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Set up for one process.

        Args:
            tokens: Of each triplet.
            global_batch_size: Triplets a step, over all processes.
            cut: Distributes triplets over forward passes; equal input, equal passes.
            seed: Of the order.
            rank: Of this process.
            world_size: Number of processes.
        """
        self.tokens = tokens
        self.size = len(tokens)
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._cut = cut
        self._ordered: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Optimiser steps an epoch."""
        return math.ceil(self.size / self.global_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; the trainer calls it at the start of each epoch."""
        self.epoch = epoch

    def step_indices(self, epoch: int, step: int) -> list[int]:
        """Indices of all triplets in one optimiser step, over all processes."""
        start = step * self.global_batch_size
        indices: list[int] = self._order(epoch)[start : start + self.global_batch_size].tolist()
        return indices

    def __iter__(self) -> Iterator[list[Pass]]:
        order = self._order(self.epoch)
        for start in range(0, self.size, self.global_batch_size):
            shares = self._dealt(order[start : start + self.global_batch_size].tolist())
            passes = [self._cut(share) for share in shares]
            most = max(len(one) for one in passes)
            mine = passes[self.rank]
            yield mine + [[] for _ in range(most - len(mine))]

    def _dealt(self, step: list[int]) -> list[list[int]]:
        """A share for each process."""
        if self.world_size == 1:
            return [step]
        shares: list[list[int]] = [[] for _ in range(self.world_size)]
        load = [0] * self.world_size
        # Sorting is stable: among equals the order of the epoch decides.
        for index in sorted(step, key=lambda index: -self.tokens[index]):
            least = load.index(min(load))
            shares[least].append(index)
            load[least] += self.tokens[index]
        return shares

    def _order(self, epoch: int) -> Tensor:
        # Kept: it is asked for once a step, and each time takes what a small model's step does.
        if self._ordered is None or self._ordered[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", epoch))
            self._ordered = epoch, torch.randperm(self.size, generator=generator)
        return self._ordered[1]


class PassDataset(Dataset[list[dict[str, Any]]]):
    """The examples of a whole forward pass at a time, as `StepSampler` names them."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __getitem__(self, indices: Pass) -> list[dict[str, Any]]:
        return [item for index in indices for item in self._examples.items(index)]


class StepCollator:
    """Collates the forward passes of one optimiser step and adds what the loss is divided by.

    An empty pass becomes one example that counts nothing: the process still runs forward and
    backward, as the others wait for it there.
    """

    def __init__(
        self,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        *,
        stand_in: dict[str, Any],
        per_token: bool,
    ) -> None:
        self._collate = collate
        self._stand_in = stand_in
        self._per_token = per_token

    def __call__(self, passes: list[list[dict[str, Any]]]) -> dict[str, Any]:
        """The step: `passes`, a list of batches.

        Each is the collator's, with `items` (scalar: triplets, or tokens for sft), `ids` of the
        triplets and, where there is a y', `identical` (B,): whether it equals y token by token.
        """
        return {"passes": [self._batch(examples) for examples in passes]}

    def _batch(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        examples_or_stand_in = examples or [self._stand_in]
        batch = self._collate(examples_or_stand_in)
        triplets = [example for example in examples if not example.get("sample")]
        items = len(triplets)
        if self._per_token:
            items = sum(len(example["annotated_ids"]) for example in triplets)
        batch["items"] = torch.tensor(items)
        batch["ids"] = [example["id"] for example in triplets]
        if examples_or_stand_in[0]["synthetic_ids"] is not None:
            same = [one["annotated_ids"] == one["synthetic_ids"] for one in examples_or_stand_in]
            batch["identical"] = torch.tensor(same)
        return batch
