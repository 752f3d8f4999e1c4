"""Negative log-likelihoods of tokens at other temperatures, with their derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tspin.forward.logprobs import TokenScores

__all__ = ["tempered_nll"]

_FLOOR = -1e4
"""Distance to the highest logit, in nats, below which a token has no probability at all. Logits of
minus infinity, which some models give to tokens that must not appear, would make 0 * inf."""


def tempered_nll(inverses: Sequence[float]) -> TokenScores:
    """Scores of tokens under softmax(b * logits), for some inverse temperatures b = 1 / T.

    With z the logits and p the softmax of b * z, the negative log-likelihood of a token y is
    log sum exp(b * z) - b * z_y; its derivative in b is the mean of z under p minus z_y, and the
    second derivative is the variance of z under p, so that it is convex in b (temperature scaling:
    Guo et al. 2017, arXiv 1706.04599).

    Args:
        inverses: K inverse temperatures, above 0.

    Returns:
        A function of logits (N, V) and tokens (N,), without gradients. It gives (N, 3 K): for each
        inverse temperature the value in nats, the first and the second derivative. Besides the
        logits it holds two arrays of their size, in float32, however many temperatures there are.
    """

    def scores(logits: Tensor, targets: Tensor) -> Tensor:
        exact = torch.promote_types(logits.dtype, torch.float32)
        z_NV = logits.to(exact)
        z_NV = (z_NV - z_NV.amax(dim=-1, keepdim=True)).clamp_(min=_FLOOR)
        target_N = z_NV.gather(-1, targets[:, None]).squeeze(-1)
        columns: list[Tensor] = []
        for inverse in inverses:
            # Element by element and not as a matrix product, which a GPU may round to 10 bits.
            weights_NV = (z_NV * inverse).exp_()
            total_N = weights_NV.sum(dim=-1)
            mean_N = weights_NV.mul_(z_NV).sum(dim=-1) / total_N
            square_N = weights_NV.mul_(z_NV).sum(dim=-1) / total_N
            nll_N = total_N.log() - inverse * target_N
            columns += [nll_N, mean_N - target_N, square_N - mean_N.square()]
        return torch.stack(columns, dim=-1)

    return scores
