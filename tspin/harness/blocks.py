"""A task's requests put to a model block by block, all or a share of them, and answers replayed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tspin.errors import InputError
from tspin.progress.display import progress

__all__ = ["BlockwiseModel", "ReplayedModel", "joined_answers"]

_BATCHES = 4
"""Batches a block of requests that only read; one that generates takes as long as its longest."""


class BlockwiseModel:
    """A model that the harness asks block by block, and perhaps only some of the blocks.

    The harness puts all requests of a kind to a model at once, which sorts them by length and cuts
    them into batches: what is computed beside a request, and so the last bits of its answer, would
    depend on all others. Blocks are cut before that, so that any share of them has the answers of a
    model that is asked everything.

    Args:
        model: From `tspin.harness.models`.
        batch_size: Requests a batch; a block is one where answers are generated, else four.
        together: Ask all blocks of a share at once: a model that makes up its batches as it goes
            (vLLM) has no bits to keep, and would idle at the end of each block.
        seed: Of tasks that sample; each block begins anew, with its number added.
        holds: Whether a block, by its number from 0, is to be asked; None asks all.
        label: For the progress display.
    """

    def __init__(
        self,
        model: Any,
        *,
        batch_size: int,
        together: bool,
        seed: int,
        holds: Callable[[int], bool] | None = None,
        label: str = "evaluate",
    ) -> None:
        self._model, self._batch_size, self._together = model, batch_size, together
        self._seed, self._holds, self._label = seed, holds, label
        self.shares: dict[str, dict[str, Any]] = {}
        """By kind of request: how many there are (`requests`), how many a block has (`block`), and
        the `answers` of the blocks that were asked, by number (JSON)."""

    def __getattr__(self, name: str) -> Any:
        """What else the harness looks at, such as the chat template, is the model's."""
        return getattr(self._model, name)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Log-probabilities of continuations, and whether each is the greedy one."""
        return self._asked("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[Any]:
        """Log-probabilities of whole texts."""
        return self._asked("loglikelihood_rolling", requests)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """Generated texts."""
        return self._asked("generate_until", requests)

    def _asked(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        """Answers in the order of the requests; None to those of blocks that are not held."""
        size = self._batch_size * (1 if kind == "generate_until" else _BATCHES)
        starts = {number: number * size for number in range(-(-len(requests) // size))}
        held = [number for number in starts if self._holds is None or self._holds(number)]
        blocks = {number: requests[starts[number] :][:size] for number in held}
        groups = [held] if self._together and held else [[number] for number in held]
        answers: dict[str, list[Any]] = {}
        total = sum(map(len, blocks.values()))
        with progress(f"{self._label}, {kind}", total, unit="requests") as shown:
            for group in groups:
                torch.manual_seed(self._seed + group[0])
                asked = [request for number in group for request in blocks[number]]
                left = iter(getattr(self._model, kind)(asked, disable_tqdm=True))
                for number in group:
                    answers[str(number)] = [next(left) for _ in blocks[number]]
                shown.advance(len(asked))
        self.shares[kind] = {"requests": len(requests), "block": size, "answers": answers}
        rows: list[Any] = [None] * len(requests)
        for number in held:
            rows[starts[number] : starts[number] + size] = answers[str(number)]
        return rows


def joined_answers(shares: Sequence[Mapping[str, Any]], task: str) -> dict[str, Any]:
    """`BlockwiseModel.shares` of several models as those of one.

    Args:
        shares: Of the shards of one evaluation.
        task: Whose requests they are, for errors.

    Raises:
        InputError: the shards had other requests, or cut them into other blocks.
    """
    joined: dict[str, Any] = {}
    for share in shares:
        for kind, own in share.items():
            whole = joined.setdefault(kind, {**own, "answers": {}})
            for key, meaning in (("requests", "requests"), ("block", "requests a block")):
                if own[key] != whole[key]:
                    raise InputError(
                        f"task {task!r}: one shard has {own[key]} {meaning} of the kind {kind}, "
                        f"another {whole[key]}; make them from equal data, with equal "
                        "system.generate_batch_size"
                    )
            whole["answers"] |= own["answers"]
    return joined


class ReplayedModel:
    """Gives the answers that models gave before, so that the harness makes its scores of them.

    Args:
        shares: Of `joined_answers`, with every block.
        task: Whose answers they are, for errors.
    """

    rank, world_size = 0, 1
    tokenizer_name = ""

    def __init__(self, shares: Mapping[str, Any], task: str) -> None:
        self._shares, self._task = shares, task

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """What was asked is of no account any more; the harness builds it all the same."""
        return "\n".join(turn["content"] for turn in chat_history)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """See `BlockwiseModel.loglikelihood`."""
        answers = self._given("loglikelihood", requests)
        # JSON has no infinity; what has no number in it was impossible.
        return [(-math.inf if logp is None else logp, greedy) for logp, greedy in answers]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[Any]:
        """See `BlockwiseModel.loglikelihood_rolling`."""
        return self._given("loglikelihood_rolling", requests)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """See `BlockwiseModel.generate_until`."""
        return self._given("generate_until", requests)

    def _given(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        share = self._shares.get(kind, {"answers": {}})
        blocks = sorted(share["answers"].items(), key=lambda block: int(block[0]))
        answers = [answer for _, block in blocks for answer in block]
        if len(answers) != len(requests):
            raise InputError(
                f"task {self._task!r}: the shards have {len(answers)} answers to {len(requests)} "
                f"requests of the kind {kind}; they were made from other data than is here"
            )
        return answers
