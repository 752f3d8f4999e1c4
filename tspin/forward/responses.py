"""How likely a policy finds given responses: passes over many of them, without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tspin.forward.logprobs import TokenScores, token_logps
from tspin.forward.passes import choose_passes, on_device
from tspin.models.policy import Policy
from tspin.progress import progress
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
    label: str = "evaluate",
) -> list[Likelihood]:
    """Summed log-probabilities of responses, in nats, in the order of `pairs`.

    Equal inputs give equal bits.

    Args:
        policy: In evaluation mode, on its device.
        pairs: Each with at least one token on both sides.
        pad_token_id: Fills up shorter rows, where rows are padded.
        tokens_per_device: Tokens a forward pass.
        chunk_size: Response positions whose logits exist at one time.
        label: For the progress display.
    """
    if not pairs:
        return []
    passes = ResponsePasses(
        policy,
        pairs,
        pad_token_id=pad_token_id,
        tokens_per_device=tokens_per_device,
        chunk_size=chunk_size,
    )
    logps = passes.sums(token_logps, label=label)
    tokens = [len(response) for _, response in pairs]
    return [
        Likelihood(*logp_and_tokens) for logp_and_tokens in zip(logps.tolist(), tokens, strict=True)
    ]


class ResponsePasses:
    """The forward passes over many responses, chosen once and made as often as needed.

    Responses to the same prompt share it, where the policy allows (`tspin.forward.passes`). The
    longest come first, so that missing memory shows at once.
    """

    def __init__(
        self,
        policy: Policy,
        pairs: Sequence[Pair],
        *,
        pad_token_id: int,
        tokens_per_device: int,
        chunk_size: int,
    ) -> None:
        """Choose the passes; see `response_likelihoods`. There is at least one pair."""
        self._policy = policy
        self._groups = _by_prompt(pairs)
        self._prompted = [
            (pairs[members[0]][0], [pairs[at][1] for at in members]) for members in self._groups
        ]
        self._tokens_per_device = tokens_per_device
        self._sizes = [_sizes(prompt, responses) for prompt, responses in self._prompted]
        self._by_length = sorted(range(len(self._groups)), key=lambda group: self._sizes[group][1])
        with torch.inference_mode():
            self._passes = choose_passes(
                policy,
                [self._prompted[group] for group in self._by_length[:1] + self._by_length[-1:]],
                pad_token_id=pad_token_id,
                chunk_size=chunk_size,
                device=policy.device,
            )

    def sums(self, scores: TokenScores, *, label: str) -> Tensor:
        """Sums of token scores over each response.

        Args:
            scores: See `tspin.forward.logprobs.response_sums`.
            label: For the progress display.

        Returns:
            One row a pair, in their order, on the CPU: (P,) or (P, X).
        """
        rows: dict[int, Tensor] = {}
        total = sum(map(len, self._groups))
        cut = self._passes.cut(self._by_length, self._sizes, self._tokens_per_device)
        with (
            torch.inference_mode(),
            progress(label, total, unit="responses") as shown,
            self._passes.on(self._policy),
        ):
            for chosen in cut:
                batch = self._passes.batch([self._prompted[group] for group in chosen])
                sums_R, _ = self._passes.sums(
                    self._policy, on_device(batch, self._policy.device), scores
                )
                which = [at for group in chosen for at in self._groups[group]]
                rows |= zip(which, sums_R.cpu(), strict=True)
                shown.advance(len(which))
        return torch.stack([rows[at] for at in range(total)])


def _by_prompt(pairs: Sequence[Pair]) -> list[list[int]]:
    """Numbers of the pairs of each prompt, in the order of their first."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, (prompt, _) in enumerate(pairs):
        groups.setdefault(tuple(prompt), []).append(at)
    return list(groups.values())


def _sizes(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """Tokens packed, of the longest sequence, and the number of responses."""
    lengths = [len(response) for response in responses]
    packed = len(prompt) + sum(length - 1 for length in lengths)
    return packed, len(prompt) + max(lengths), len(lengths)
