"""How likely a policy finds given responses: one pass over many, without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tspin.collator import TripletCollator
from tspin.logprobs import Head, check_head, response_logps
from tspin.metrics import Likelihood
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
    batch_size: int,
    chunk_size: int,
    label: str = "evaluate",
) -> list[Likelihood]:
    """Summed log-probabilities of responses, in nats, in the order of `pairs`.

    The longest rows come first, so that padding is little and missing memory shows at once; rows
    of equal length keep their order, so equal inputs give equal bits.

    Args:
        policy: In evaluation mode, on its device.
        pairs: Each with at least one token on both sides.
        pad_token_id: Fills up shorter rows.
        batch_size: Rows a forward pass.
        chunk_size: Response positions whose logits exist at one time.
        label: For the progress display.
    """
    order = sorted(range(len(pairs)), key=lambda at: -sum(map(len, pairs[at])))
    collator = TripletCollator(pad_token_id)
    found: dict[int, Likelihood] = {}
    head: Head = "chunked"
    with torch.inference_mode(), progress(label, len(pairs), unit="responses") as shown:
        if order and not check_head(
            policy, _batch(collator, pairs, order[-1:], policy.device), chunk_size=chunk_size
        ):
            head = "model"
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = _batch(collator, pairs, chosen, policy.device)
            logps_R, tokens_R = response_logps(policy, batch, chunk_size=chunk_size, head=head)
            for at, logp, tokens in zip(chosen, logps_R.tolist(), tokens_R.tolist(), strict=True):
                found[at] = Likelihood(logp, tokens)
            shown.advance(len(chosen))
    return [found[at] for at in range(len(pairs))]


def _batch(
    collator: TripletCollator, pairs: Sequence[Pair], chosen: Sequence[int], device: torch.device
) -> dict[str, torch.Tensor]:
    # To the collator every row is the one response of its example, as in fine-tuning on y alone.
    examples = [
        {
            "prompt_ids": list(pairs[at][0]),
            "annotated_ids": list(pairs[at][1]),
            "synthetic_ids": None,
            "proto_synthetic_ids": None,
        }
        for at in chosen
    ]
    return {name: value.to(device) for name, value in collator(examples).items()}
