"""How likely a policy finds given responses: passes over many of them, without gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed
from rich.console import Console
from torch import Tensor

from tspin.forward.logprobs import TokenScores, token_logps
from tspin.forward.passes import choose_passes, evaluating, on_device
from tspin.models.policy import Policy
from tspin.models.sharding import is_sharded
from tspin.processes.group import patient_group
from tspin.progress.display import progress
from tspin.records.estimate import Likelihood

__all__ = ["ResponsePasses", "response_likelihoods"]

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of a response to it, with its end token if it has one."""


def response_likelihoods(
    policy: Policy,
    pairs: Sequence[Pair],
    *,
    pad_token_id: int,
    tokens_per_device: int,
    chunk_size: int,
    blocks: Sequence[int] | None = None,
    label: str = "evaluate",
    device: torch.device | None = None,
) -> list[Likelihood]:
    """Summed log-probabilities of responses, in nats, in the order of `pairs`.

    Equal inputs give equal bits.

    Args:
        policy: In evaluation mode, on its device.
        pairs: Each with at least one token on both sides.
        pad_token_id: Fills up shorter rows, where rows are padded.
        tokens_per_device: Tokens a forward pass.
        chunk_size: Response positions whose logits exist at one time.
        blocks: Number of the block of each pair; no pass is made of two blocks, so that its bits
            do not depend on which other blocks there are. None is one block.
        label: For the progress display.
        device: Where the policy computes; by default where its weights are.
    """
    if not pairs:
        return []
    passes = ResponsePasses(
        policy,
        pairs,
        pad_token_id=pad_token_id,
        tokens_per_device=tokens_per_device,
        chunk_size=chunk_size,
        blocks=blocks,
        device=device,
    )
    logps = passes.sums(token_logps, label=label)
    tokens = [len(response) for _, response in pairs]
    return [
        Likelihood(*logp_and_tokens) for logp_and_tokens in zip(logps.tolist(), tokens, strict=True)
    ]


class ResponsePasses:
    """The forward passes over many responses, chosen once and made as often as needed.

    Responses to the same prompt share it, where the policy allows (`tspin.forward.passes`). The
    longest come first, so that missing memory shows at once. Of a sharded policy each process makes
    every n-th pass, and all of them get all sums; all have to do the same with this object.

    A sum's last bits depend on what it is computed beside. Passes are therefore made block by
    block: whoever computes a whole block gets its bits, whoever computes the others.
    """

    def __init__(
        self,
        policy: Policy,
        pairs: Sequence[Pair],
        *,
        pad_token_id: int,
        tokens_per_device: int,
        chunk_size: int,
        blocks: Sequence[int] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Choose the passes; see `response_likelihoods`. There is at least one pair."""
        self._policy = policy
        self._device = policy.device if device is None else device
        grouped = _by_prompt(pairs, blocks or [0] * len(pairs))
        self._groups = list(grouped.values())
        self._prompted = [
            (pairs[members[0]][0], [pairs[at][1] for at in members]) for members in self._groups
        ]
        self._tokens_per_device = tokens_per_device
        self._sizes = [_sizes(prompt, responses) for prompt, responses in self._prompted]
        self._by_length = sorted(range(len(self._groups)), key=lambda group: self._sizes[group][1])
        block_of = [block for block, _ in grouped]
        self._blocks = [
            [group for group in self._by_length if block_of[group] == block]
            for block in sorted(set(block_of))
        ]
        with _without_gradients(policy):
            self._passes = choose_passes(
                policy,
                [self._prompted[group] for group in self._by_length[:1] + self._by_length[-1:]],
                pad_token_id=pad_token_id,
                chunk_size=chunk_size,
                device=self._device,
            )

    def sums(self, scores: TokenScores, *, label: str) -> Tensor:
        """Sums of token scores over each response.

        Args:
            scores: See `tspin.forward.logprobs.response_sums`.
            label: For the progress display.

        Returns:
            One row a pair, in their order, on the CPU: (P,) or (P, X).
        """
        cut = [
            chosen
            for block in self._blocks
            for chosen in self._passes.cut(block, self._sizes, self._tokens_per_device)
        ]
        rank, processes = _place(self._policy)
        share = cut[rank::processes]
        own = sum(len(self._groups[group]) for chosen in share for group in chosen)
        console = Console(stderr=True, quiet=True) if rank else None
        rows: dict[int, Tensor] = {}
        with (
            _without_gradients(self._policy),
            progress(label, own, unit="responses", console=console) as shown,
            self._passes.on(self._policy),
        ):
            for chosen in share:
                which = [at for group in chosen for at in self._groups[group]]
                rows |= zip(which, self._pass(chosen, scores), strict=True)
                shown.advance(len(which))
            if rank >= (len(cut) % processes or processes):
                # Weights are gathered in each pass, so all processes make as many.
                stand_in = self._pass(self._by_length[:1], scores)
                rows = rows or {0: torch.zeros_like(stand_in[0])}
        total = sum(map(len, self._groups))
        if processes == 1:
            return torch.stack([rows[at] for at in range(total)])
        return _joined(rows, total)

    def _pass(self, groups: Sequence[int], scores: TokenScores) -> Tensor:
        """Sums of the responses to some prompts, on the CPU."""
        batch = self._passes.batch([self._prompted[group] for group in groups])
        return self._passes.sums(self._policy, on_device(batch, self._device), scores)[0].cpu()


def _place(policy: Policy) -> tuple[int, int]:
    """Which of how many processes this is that share the passes."""
    if not is_sharded(policy):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextmanager
def _without_gradients(policy: Policy) -> Iterator[None]:
    if is_sharded(policy):
        # Not inference mode, which outlives the block in the memory that weights are gathered in.
        with evaluating(policy):
            yield
        return
    with torch.inference_mode():
        yield


def _joined(rows: dict[int, Tensor], total: int) -> Tensor:
    """All rows, of which each process has its own; a sum in which all others are 0 is exact."""
    some = next(iter(rows.values()))
    sums = torch.zeros(total, *some.shape, dtype=some.dtype)
    for at, row in rows.items():
        sums[at] = row
    torch.distributed.all_reduce(sums, group=patient_group())
    return sums


def _by_prompt(
    pairs: Sequence[Pair], blocks: Sequence[int]
) -> dict[tuple[int, tuple[int, ...]], list[int]]:
    """Numbers of the pairs of each prompt of a block, in the order of their first."""
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for at, ((prompt, _), block) in enumerate(zip(pairs, blocks, strict=True)):
        groups.setdefault((block, tuple(prompt)), []).append(at)
    return groups


def _sizes(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """Tokens packed, of the longest sequence, and the number of responses."""
    lengths = [len(response) for response in responses]
    packed = len(prompt) + sum(length - 1 for length in lengths)
    return packed, len(prompt) + max(lengths), len(lengths)
