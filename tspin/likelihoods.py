"""How likely a policy finds given responses: one pass over many, without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tspin.metrics import Likelihood
from tspin.passes import choose_passes, on_device
from tspin.policy import Policy
from tspin.progress import progress

__all__ = ["response_likelihoods"]

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

    Responses to the same prompt share it, where the policy allows (`tspin.passes`). The longest
    come first, so that missing memory shows at once. Equal inputs give equal bits.

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
    groups = _by_prompt(pairs)
    prompted = [(pairs[group[0]][0], [pairs[at][1] for at in group]) for group in groups]
    sizes = [_sizes(prompt, responses) for prompt, responses in prompted]
    found: dict[int, Likelihood] = {}
    with torch.inference_mode(), progress(label, len(pairs), unit="responses") as shown:
        by_length = sorted(range(len(groups)), key=lambda group: sizes[group][1])
        passes = choose_passes(
            policy,
            [prompted[group] for group in by_length[:1] + by_length[-1:]],
            pad_token_id=pad_token_id,
            chunk_size=chunk_size,
            device=policy.device,
        )
        with passes.on(policy):
            for chosen in passes.cut(by_length, sizes, tokens_per_device):
                batch = passes.batch([prompted[group] for group in chosen])
                logps_R, tokens_R = passes.logps(policy, on_device(batch, policy.device))
                which = [at for group in chosen for at in groups[group]]
                for at, logp, tokens in zip(
                    which, logps_R.tolist(), tokens_R.tolist(), strict=True
                ):
                    found[at] = Likelihood(logp, tokens)
                shown.advance(len(which))
    return [found[at] for at in range(len(pairs))]


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
