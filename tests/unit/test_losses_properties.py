"""What holds for the losses whatever the log-probabilities are."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tspin.losses import (
    Link,
    length_normalised,
    spin_loss,
    tspin_all_loss,
    tspin_loss,
    tspin_ref_loss,
)

# Summed log-probabilities of responses; narrow enough that the exponential link stays in range.
logp = st.floats(-60.0, 0.0)
coefficient = st.floats(0.05, 2.0)
links = st.sampled_from(["logistic", "exponential"])


@st.composite
def triples(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    size = draw(st.integers(1, 6))
    lists = [draw(st.lists(logp, min_size=size, max_size=size)) for _ in range(3)]
    y, s, p = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in lists)
    return y, s, p


@given(triples(), coefficient, coefficient, links, st.floats(-50.0, 50.0))
def test_adding_a_constant_to_all_logps_changes_nothing(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, link: Link, shift: float
) -> None:
    before = tspin_loss(*logps, alpha=alpha, beta=beta, link=link).loss
    after = tspin_loss(*(x + shift for x in logps), alpha=alpha, beta=beta, link=link).loss
    assert torch.allclose(before, after, rtol=1e-9)


@given(triples(), coefficient, coefficient, links)
def test_gradients_of_a_triplet_sum_to_zero(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, link: Link
) -> None:
    loss = tspin_loss(*logps, alpha=alpha, beta=beta, link=link).loss
    gradients = torch.stack(torch.autograd.grad(loss, logps))
    assert torch.allclose(
        gradients.sum(dim=0), torch.zeros(1, dtype=torch.float64), atol=1e-9 * gradients.abs().max()
    )


@given(triples(), coefficient, coefficient, links)
def test_with_equal_y_and_synthetic_y0_still_has_a_gradient(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, link: Link
) -> None:
    y, _, p = logps
    s = y.detach().clone().requires_grad_()
    loss = tspin_loss(y, s, p, alpha=alpha, beta=beta, link=link).loss
    (gradient,) = torch.autograd.grad(loss, p)
    assert (gradient > 0).all()  # Descent lowers logp(y0).


@given(triples(), triples(), coefficient, links)
def test_at_beta_0_y0_is_irrelevant(
    logps: tuple[Tensor, Tensor, Tensor],
    others: tuple[Tensor, Tensor, Tensor],
    alpha: float,
    link: Link,
) -> None:
    y, s, p = logps
    other = others[2][:1].expand(len(p))
    with_p = tspin_loss(y, s, p, alpha=alpha, beta=0.0, link=link).loss
    with_other = tspin_loss(y, s, other, alpha=alpha, beta=0.0, link=link).loss
    without = tspin_loss(y, s, None, alpha=alpha, beta=0.0, link=link).loss
    assert torch.equal(with_p, with_other) and torch.equal(with_p, without)
    assert torch.autograd.grad(with_p, p, allow_unused=True) == (None,)


@given(triples(), coefficient, links)
def test_the_loss_never_rises_with_the_likelihood_of_y(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, link: Link
) -> None:
    y, s, p = logps
    terms = tspin_loss(y, s, p, alpha=alpha, beta=0.1, link=link)
    better = tspin_loss(y + 1.0, s, p, alpha=alpha, beta=0.1, link=link)
    assert better.loss <= terms.loss
    assert terms.saturation is not None and better.saturation is not None
    assert (better.saturation <= terms.saturation).all()


@given(triples(), coefficient, coefficient, links)
def test_a_reference_that_gives_all_the_same_logp_is_no_reference(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, link: Link
) -> None:
    same = torch.full_like(logps[0], -7.0)
    plain = tspin_loss(*logps, alpha=alpha, beta=beta, link=link).loss
    referenced = tspin_ref_loss(*logps, same, same, same, alpha=alpha, beta=beta, link=link).loss
    assert torch.allclose(plain, referenced, rtol=1e-9)


@given(triples(), coefficient, links)
def test_spin_is_tspin_ref_without_history(
    logps: tuple[Tensor, Tensor, Tensor], lam: float, link: Link
) -> None:
    y, s, reference = logps
    spin = spin_loss(y, s, reference, reference, spin_lambda=lam, link=link).loss
    tspin = tspin_ref_loss(
        y, s, None, reference, reference, None, alpha=lam, beta=0.0, link=link
    ).loss
    assert torch.equal(spin, tspin)


@given(triples(), coefficient, coefficient, st.randoms(use_true_random=False))
def test_the_order_of_the_batch_is_irrelevant(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, random: object
) -> None:
    order = list(range(len(logps[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    before = tspin_loss(*logps, alpha=alpha, beta=beta).loss
    after = tspin_loss(*(x[order] for x in logps), alpha=alpha, beta=beta).loss
    assert torch.allclose(before, after, rtol=1e-12)


@given(triples(), st.integers(1, 100), coefficient, coefficient)
def test_normalising_equal_lengths_scales_alpha(
    logps: tuple[Tensor, Tensor, Tensor], tokens: int, alpha: float, beta: float
) -> None:
    lengths = torch.full((len(logps[0]),), tokens)
    means = [length_normalised(x, lengths) for x in logps]
    normalised = tspin_loss(*means, alpha=alpha, beta=beta).loss
    assert torch.allclose(normalised, tspin_loss(*logps, alpha=alpha / tokens, beta=beta).loss)


@given(triples(), coefficient, coefficient, links, st.booleans())
def test_tspin_all_is_tspin_where_no_policy_is_between(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, link: Link, first: bool
) -> None:
    """At iteration 0, which has no history, and at iteration 1, whose only history is y0."""
    inputs = (*logps[:2], None) if first else logps
    beta = 0.0 if first else beta
    ours = tspin_all_loss(*inputs, [], alpha=alpha, beta=beta, link=link)
    tspin = tspin_loss(*inputs, alpha=alpha, beta=beta, link=link)
    for name, value in vars(tspin).items():
        other = getattr(ours, name)
        assert other is value or torch.equal(other, value)


@given(triples(), coefficient, coefficient, links)
def test_a_policy_that_answers_as_the_one_after_it_leaves_the_ranking(
    logps: tuple[Tensor, Tensor, Tensor], alpha: float, beta: float, link: Link
) -> None:
    y, s, p = logps
    ours = tspin_all_loss(y, s, p, [s], alpha=alpha, beta=beta, link=link).losses
    # Of three pairs of policies one compares equal responses, and teaches nothing.
    equal = tspin_loss(s, s, None, alpha=alpha, beta=0.0, link=link).losses
    current = tspin_loss(y, s, None, alpha=alpha, beta=0.0, link=link).losses
    history = tspin_loss(s, p, None, alpha=alpha, beta=0.0, link=link).losses
    assert ours is not None and equal is not None and current is not None and history is not None
    assert torch.allclose(ours, current + beta * (2 * history + equal) / 3, rtol=1e-9)
