"""The objectives of triplet self-play fine-tuning and its relatives, as pure functions.

`logp(r)` is the sum over the tokens of response r, its end-of-sequence token included, of
log pi(token given all before it), in nats. T-SPIN: arXiv 2601.08198. SPIN: arXiv 2401.01335.
SPACE: arXiv 2512.07175. DITTO: arXiv 2406.00888.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tspin.errors import InputError

__all__ = [
    "Link",
    "LossTerms",
    "length_normalised",
    "sft_loss",
    "space_loss",
    "spin_loss",
    "tspin_all_loss",
    "tspin_loss",
    "tspin_ref_loss",
]

Link = Literal["logistic", "exponential"]


@dataclass(frozen=True)
class LossTerms:
    """A loss and what it was made of. All but `loss` and `losses` is detached from the graph."""

    loss: Tensor
    """Scalar, the mean over the batch; in nats for the logistic link and for SFT."""
    losses: Tensor | None = None
    """(B,) what the loss is the mean of, with its gradient, for other means of it; not for SFT."""
    current_advantage: Tensor | None = None
    """(B,) reward(y) - reward(y'), the margin that the loss widens."""
    historical_advantage: Tensor | None = None
    """(B,) reward(y') - reward(y0), where y0 is given."""
    annotated_rewards: Tensor | None = None
    """(B,) eq. (6) of arXiv 2601.08198: alpha * logp(y), or minus the reference's."""
    synthetic_rewards: Tensor | None = None
    proto_synthetic_rewards: Tensor | None = None
    saturation: Tensor | None = None
    """(B,) |l'| of it, for SPACE the larger derivative by a reward; near 0 nothing is learnt."""


def tspin_loss(
    annotated_logps: Tensor,
    synthetic_logps: Tensor,
    proto_synthetic_logps: Tensor | None,
    *,
    alpha: float,
    beta: float,
    link: Link = "logistic",
) -> LossTerms:
    """T-SPIN, eq. (7) of arXiv 2601.08198; with beta = 0 its ablation without history.

    mean over B of l(alpha*(logp(y) - logp(y'))) + beta * l(alpha*(logp(y') - logp(y0))).

    Args:
        annotated_logps: (B,) nats, logp(y) under the policy that is trained.
        synthetic_logps: (B,) nats, logp(y').
        proto_synthetic_logps: (B,) nats, logp(y0); None only where beta is 0.
        alpha: Entropy-regularisation coefficient, above 0.
        beta: Weight of the historical advantage.
        link: The decreasing function l: logistic -log sigmoid(z), or exponential exp(-z).

    Raises:
        InputError: beta is above 0 without proto_synthetic_logps, or no such link.
    """
    proto_rewards = None if proto_synthetic_logps is None else alpha * proto_synthetic_logps
    return _triplet_terms(
        alpha * annotated_logps, alpha * synthetic_logps, proto_rewards, beta=beta, link=link
    )


def tspin_all_loss(
    annotated_logps: Tensor,
    synthetic_logps: Tensor,
    proto_synthetic_logps: Tensor | None,
    earlier_logps: Tensor | Sequence[Tensor],
    *,
    alpha: float,
    beta: float,
    link: Link = "logistic",
) -> LossTerms:
    """T-SPIN against all policies of the run so far, ranked as in DITTO (arXiv 2406.00888).

    With y_t = y', y_i of the policies between, and d(a, b) = alpha*(logp(a) - logp(b)): mean over B
    of mean over 1 <= i <= t of l(d(y, y_i)) + beta * mean over 0 <= j < i <= t of l(d(y_i, y_j)).
    DITTO's are the comparisons: expert over policies, later over earlier. Ours are T-SPIN's rewards
    (DITTO's are DPO's, with a reference), and the means and beta: DITTO draws pairs of its kinds in
    shares. y0 is below every y_i, and below y only through them: so it is in T-SPIN, which this is,
    to the bit, where no policy is between.

    Args:
        annotated_logps: (B,) nats, logp(y) under the policy that is trained.
        synthetic_logps: (B,) of y'.
        proto_synthetic_logps: (B,) of y0; None only where beta is 0.
        earlier_logps: (B,) each, of the policies between these two, oldest first.
        alpha: As of `tspin_loss`, which also says what is refused.
        beta: Weight of later responses over earlier ones.
        link: The decreasing function l.
    """
    ends = annotated_logps, synthetic_logps, proto_synthetic_logps
    terms, value = tspin_loss(*ends, alpha=alpha, beta=beta, link=link), _link(link)[0]
    if proto_synthetic_logps is None or not len(earlier_logps):
        return terms
    policies = [proto_synthetic_logps, *earlier_logps, synthetic_logps]
    annotated = [value(alpha * (annotated_logps - one)) for one in policies[1:]]
    later = [value(alpha * (late - early)) for early, late in combinations(policies, 2)]
    losses = torch.stack(annotated).mean(dim=0) + beta * torch.stack(later).mean(dim=0)
    return replace(terms, loss=losses.mean(), losses=losses)


def tspin_ref_loss(
    annotated_logps: Tensor,
    synthetic_logps: Tensor,
    proto_synthetic_logps: Tensor | None,
    reference_annotated_logps: Tensor,
    reference_synthetic_logps: Tensor,
    reference_proto_synthetic_logps: Tensor | None,
    *,
    alpha: float,
    beta: float,
    link: Link = "logistic",
) -> LossTerms:
    """T-SPIN with a reference policy, the ablation T-SPIN_ref of arXiv 2601.08198.

    `tspin_loss` with every logp(r) replaced by logp(r) - ref_logp(r), all (B,) in nats; the
    reference is the policy at the start of the iteration and gets no gradient.

    Args:
        annotated_logps: (B,) summed logp(y) under the policy, in nats.
        synthetic_logps: (B,) of y'.
        proto_synthetic_logps: (B,) of y0; None at iteration 0.
        reference_annotated_logps: (B,) logp(y) under the policy an iteration began with.
        reference_synthetic_logps: (B,) of y' under it.
        reference_proto_synthetic_logps: (B,) of y0 under it.
        alpha: Entropy-regularisation coefficient.
        beta: Weight of the historical advantage.
        link: The decreasing function l.

    Raises:
        InputError: as `tspin_loss`; or only one of y0's two logps is given.
    """
    if (proto_synthetic_logps is None) != (reference_proto_synthetic_logps is None):
        raise InputError("proto_synthetic_logps needs reference_proto_synthetic_logps beside it")
    proto_ratio = None
    if proto_synthetic_logps is not None and reference_proto_synthetic_logps is not None:
        proto_ratio = proto_synthetic_logps - reference_proto_synthetic_logps.detach()
    return tspin_loss(
        annotated_logps - reference_annotated_logps.detach(),
        synthetic_logps - reference_synthetic_logps.detach(),
        proto_ratio,
        alpha=alpha,
        beta=beta,
        link=link,
    )


def spin_loss(
    annotated_logps: Tensor,
    synthetic_logps: Tensor,
    reference_annotated_logps: Tensor,
    reference_synthetic_logps: Tensor,
    *,
    spin_lambda: float,
    link: Link = "logistic",
) -> LossTerms:
    """SPIN, eq. (4.7) of arXiv 2401.01335.

    mean over B of l(lambda*((logp(y) - ref_logp(y)) - (logp(y') - ref_logp(y')))), every logp (B,)
    in nats, the reference being the policy at the start of the iteration.

    Args:
        annotated_logps: (B,) summed logp(y) under the policy, in nats.
        synthetic_logps: (B,) of y'.
        reference_annotated_logps: (B,) logp(y) under the policy an iteration began with.
        reference_synthetic_logps: (B,) of y' under it.
        spin_lambda: The papers' lambda: 0.1, and 5.0 in the last iteration.
        link: The decreasing function l.

    Raises:
        InputError: no such link.
    """
    return _triplet_terms(
        spin_lambda * (annotated_logps - reference_annotated_logps.detach()),
        spin_lambda * (synthetic_logps - reference_synthetic_logps.detach()),
        None,
        beta=0.0,
        link=link,
    )


def space_loss(
    annotated_logps: Tensor,
    synthetic_logps: Tensor,
    reference_annotated_logps: Tensor,
    reference_synthetic_logps: Tensor,
    *,
    noise_ratio: float = 1.0,
) -> LossTerms:
    """SPACE, self-play by noise contrastive estimation (arXiv 2512.07175).

    mean over B of -log s(r(y)) - mu * log(1 - s(r(y'))), with r(u) = logp(u) - ref_logp(u) and
    s(x) = 1 / (1 + mu * exp(-x)). y and y' are classified each by itself, so a loss is left where
    both are equally likely. With mu = 1 it is TRL's `bco_pair` at beta 1.

    Args:
        annotated_logps: (B,) summed logp(y) under the policy, in nats.
        synthetic_logps: (B,) of y'.
        reference_annotated_logps: (B,) logp(y) under the policy an iteration began with.
        reference_synthetic_logps: (B,) of y' under it.
        noise_ratio: The paper's mu, above 0; the one synthetic response here counts mu times.
    """
    annotated = annotated_logps - reference_annotated_logps.detach()
    synthetic = synthetic_logps - reference_synthetic_logps.detach()
    shift = math.log(noise_ratio)  # s(x) is the logistic function of x - log mu.
    losses = -F.logsigmoid(annotated - shift) - noise_ratio * F.logsigmoid(shift - synthetic)
    slopes = torch.sigmoid(shift - annotated), noise_ratio * torch.sigmoid(synthetic - shift)
    return LossTerms(
        loss=losses.mean(),
        losses=losses,
        current_advantage=(annotated - synthetic).detach(),
        annotated_rewards=annotated.detach(),
        synthetic_rewards=synthetic.detach(),
        saturation=torch.maximum(*slopes).detach(),
    )


def sft_loss(
    annotated_logps: Tensor,
    annotated_tokens: Tensor,
    *,
    total_tokens: Tensor | float | None = None,
) -> LossTerms:
    """Supervised fine-tuning: mean negative log-likelihood of a response token, in nats.

    Args:
        annotated_logps: (B,) nats.
        annotated_tokens: (B,) numbers of response tokens.
        total_tokens: Divides instead of this batch's number; with that of a whole optimiser step
            the losses of its parts add up to that of the step.
    """
    tokens = annotated_tokens.sum().clamp(min=1) if total_tokens is None else total_tokens
    return LossTerms(-annotated_logps.sum() / tokens)


def length_normalised(logps: Tensor, tokens: Tensor) -> Tensor:
    """Mean instead of summed log-probabilities: nats per token, shape (B,).

    Not the papers' method. Takes logps and tokens, both (B,); an empty response keeps its sum of 0.
    """
    return logps / tokens.clamp(min=1)


def _triplet_terms(
    annotated: Tensor, synthetic: Tensor, proto: Tensor | None, *, beta: float, link: Link
) -> LossTerms:
    """Every preference loss here, as a function of rewards of shape (B,)."""
    value, slope = _link(link)
    current = annotated - synthetic
    historical = None if proto is None else synthetic - proto
    losses = value(current)
    if beta != 0:  # Not a term times 0: y0 must not reach the loss, even where its logp is -inf.
        if historical is None:
            raise InputError(f"beta is {beta}, which needs proto_synthetic_logps")
        losses = losses + beta * value(historical)
    return LossTerms(
        loss=losses.mean(),
        losses=losses,
        current_advantage=current.detach(),
        historical_advantage=None if historical is None else historical.detach(),
        annotated_rewards=annotated.detach(),
        synthetic_rewards=synthetic.detach(),
        proto_synthetic_rewards=None if proto is None else proto.detach(),
        saturation=slope(current.detach()),
    )


def _link(link: Link) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The decreasing function l, and |l'|."""
    if link == "logistic":
        # |l'(z)| = sigmoid(-z); the T-SPIN paper's appendix prints sigmoid(z), a slip.
        return (lambda z: -F.logsigmoid(z)), (lambda z: torch.sigmoid(-z))
    if link == "exponential":
        return (lambda z: torch.exp(-z)), (lambda z: torch.exp(-z))
    raise InputError(f"link is {link!r}; expected 'logistic' or 'exponential'")
