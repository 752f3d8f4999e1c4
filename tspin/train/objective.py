"""The loss of the method that a training was asked for, on one batch."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from tspin.config import SUPERVISED
from tspin.errors import InputError
from tspin.losses import (
    LossTerms,
    length_normalised,
    sft_loss,
    space_loss,
    spin_loss,
    tspin_all_loss,
    tspin_loss,
    tspin_ref_loss,
)
from tspin.train.arguments import TSPINConfig

__all__ = ["method_loss", "sdft_loss"]


def method_loss(
    args: TSPINConfig,
    logps: Tensor,
    tokens: Tensor,
    reference: Tensor | None,
    weights: Tensor | None = None,
    divergences: Tensor | None = None,
) -> LossTerms:
    """The loss of the configured method on one batch.

    Args:
        args: Names the method and its coefficients.
        logps: (k, B) summed response logps in nats: y, y', y0 and those of the policies between
            these two as far as the method reads them.
        tokens: (k, B) numbers of response tokens.
        reference: (k, B) the same logps under the reference policy, where the method has one.
        weights: (B,) where a prompt may have several y', each in a triplet of its own: those of a
            prompt add up to 1. The loss is then the mean over prompts of the mean over their y'.
        divergences: (B,) of each y' summed over its tokens, in nats, where there is a teacher.
    """
    if args.method in SUPERVISED:
        return sft_loss(logps[0], tokens[0])
    if divergences is not None:
        terms = sdft_loss(divergences, tokens[1])
    else:
        terms = _preference_loss(args, logps, tokens, reference)
    if weights is not None and terms.losses is not None:
        terms = replace(terms, loss=_mean(terms.losses, weights))
    if args.sft_weight == 0:
        return terms
    # Per token and triplet, as in eq. (1) of arXiv 2404.19733.
    likelihood = _mean(length_normalised(logps[0], tokens[0]), weights)
    return replace(terms, loss=terms.loss - args.sft_weight * likelihood)


def sdft_loss(divergences: Tensor, tokens: Tensor) -> LossTerms:
    """Self-distillation fine-tuning (arXiv 2601.19897): the mean over B of that over the tokens.

    Args:
        divergences: (B,) nats, from the teacher that sees the annotation to the policy or back
            (`tspin.forward.distillation.token_divergence`), summed over the tokens of y'.
        tokens: (B,) of y'.
    """
    losses = length_normalised(divergences, tokens)
    return LossTerms(loss=losses.mean(), losses=losses)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (weights * values).sum() / weights.sum()


def _preference_loss(
    args: TSPINConfig, logps: Tensor, tokens: Tensor, reference: Tensor | None
) -> LossTerms:
    if args.length_normalised:
        logps = length_normalised(logps, tokens)
        reference = None if reference is None else length_normalised(reference, tokens)
    annotated, synthetic, proto = (*logps, None)[:3]
    if args.method in ("tspin", "tspin_no_history"):
        return tspin_loss(
            annotated, synthetic, proto, alpha=args.alpha, beta=args.beta, link=args.link
        )
    if args.method == "tspin_all":
        return tspin_all_loss(
            annotated, synthetic, proto, logps[3:], alpha=args.alpha, beta=args.beta, link=args.link
        )
    if reference is None:
        raise InputError(f"method '{args.method}' needs reference_logps in the examples")
    if args.method == "space":
        return space_loss(annotated, synthetic, *reference, noise_ratio=args.noise_ratio)
    if args.method == "spin":
        return spin_loss(
            annotated, synthetic, *reference, spin_lambda=args.spin_lambda, link=args.link
        )
    references = (*reference, None)[:3]
    return tspin_ref_loss(
        annotated, synthetic, proto, *references, alpha=args.alpha, beta=args.beta, link=args.link
    )
