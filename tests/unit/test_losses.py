"""Losses against numbers worked out by hand and the derivatives of the papers' objectives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tspin.errors import InputError
from tspin.losses import (
    Link,
    LossTerms,
    length_normalised,
    sft_loss,
    space_loss,
    spin_loss,
    tspin_all_loss,
    tspin_loss,
    tspin_ref_loss,
)

LINKS: tuple[Link, ...] = ("logistic", "exponential")


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def close(actual: Tensor | None, *expected: float) -> bool:
    assert actual is not None
    return torch.allclose(
        actual.detach().reshape(-1), torch.tensor(expected, dtype=actual.dtype), rtol=0, atol=1e-9
    )


def test_tspin_logistic_by_hand() -> None:
    terms = tspin_loss(
        column(-10.0, -20.0), column(-12.0, -19.0), column(-11.0, -19.0), alpha=0.5, beta=0.1
    )
    # Sample 1: u = 0.5*(-10+12) = 1, v = 0.5*(-12+11) = -0.5.
    #   log(1+e^-1) = 0.3132616875; log(1+e^0.5) = 0.9740769842
    #   0.3132616875 + 0.1*0.9740769842 = 0.4106693859
    # Sample 2: u = 0.5*(-20+19) = -0.5, v = 0: 0.9740769842 + 0.1*log 2 = 1.0433917022
    # Mean: (0.4106693859 + 1.0433917022) / 2 = 0.7270305441
    assert terms.loss.item() == pytest.approx(0.7270305441, abs=1e-9)
    assert close(terms.current_advantage, 1.0, -0.5)
    assert close(terms.historical_advantage, -0.5, 0.0)
    assert close(terms.annotated_rewards, -5.0, -10.0)
    assert close(terms.synthetic_rewards, -6.0, -9.5)
    assert close(terms.proto_synthetic_rewards, -5.5, -9.5)
    # sigmoid(-1) = 1/(1+e) = 0.2689414214, sigmoid(0.5) = 0.6224593312
    assert close(terms.saturation, 0.2689414213699951, 0.6224593312018546)


def test_tspin_exponential_by_hand() -> None:
    terms = tspin_loss(
        column(-10.0), column(-12.0), column(-11.0), alpha=0.5, beta=0.1, link="exponential"
    )
    # e^-1 + 0.1*e^0.5 = 0.3678794412 + 0.1648721271 = 0.5327515683
    assert terms.loss.item() == pytest.approx(0.5327515683, abs=1e-9)
    assert close(terms.saturation, math.exp(-1))


def test_tspin_ref_by_hand() -> None:
    terms = tspin_ref_loss(
        *(column(-10.0), column(-12.0), column(-11.0)),
        *(column(-11.0), column(-11.5), column(-13.0)),
        alpha=1.0,
        beta=0.5,
    )
    # e^-2.5 = 0.0820849986, log(1.0820849986) = 0.0788897343.
    # Ratios: y -10+11 = 1; y' -12+11.5 = -0.5; y0 -11+13 = 2. u = 1.5, v = -2.5.
    # log(1+e^-1.5) = 0.2014132780; log(1+e^2.5) = 2.5788897343; 0.2014132780 + 0.5*2.5788897343
    assert terms.loss.item() == pytest.approx(0.2014132780 + 1.28944486715, abs=1e-9)
    assert close(terms.annotated_rewards, 1.0)
    assert close(terms.synthetic_rewards, -0.5)
    assert close(terms.proto_synthetic_rewards, 2.0)


def test_spin_by_hand() -> None:
    terms = spin_loss(column(-10.0), column(-12.0), column(-11.0), column(-9.0), spin_lambda=0.1)
    # 0.1*((-10+11) - (-12+9)) = 0.1*(1+3) = 0.4; log(1+e^-0.4) = 0.5130152524
    assert terms.loss.item() == pytest.approx(0.5130152524, abs=1e-9)
    assert close(terms.current_advantage, 0.4)
    assert terms.historical_advantage is None
    assert close(terms.annotated_rewards, 0.1)
    assert close(terms.synthetic_rewards, -0.3)


def test_sft_is_the_mean_over_tokens_not_over_samples() -> None:
    uneven = sft_loss(column(-6.0, -4.0), torch.tensor([3, 1]))
    assert uneven.loss.item() == pytest.approx(10 / 4)  # Over samples it would be (2 + 4) / 2 = 3.


def test_parts_of_an_sft_step_add_up_to_the_step() -> None:
    whole = sft_loss(column(-6.0, -4.0), torch.tensor([3, 1])).loss
    parts = [
        sft_loss(column(logp), torch.tensor([tokens]), total_tokens=4).loss
        for logp, tokens in ((-6.0, 3), (-4.0, 1))
    ]
    assert torch.allclose(whole, parts[0] + parts[1])


def slope(link: Link, z: Tensor) -> Tensor:
    """l'(z): logistic -sigmoid(-z) = -1/(1+e^z), exponential -e^-z."""
    return -1 / (1 + torch.exp(z)) if link == "logistic" else -torch.exp(-z)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("with_reference", [False, True])
def test_tspin_gradients(link: Link, beta: float, with_reference: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    y, s, p, ry, rs, rp = (
        torch.randn(5, dtype=torch.float64, generator=generator).mul(3).requires_grad_()
        for _ in range(6)
    )
    alpha = 0.7
    if with_reference:
        tspin_ref_loss(y, s, p, ry, rs, rp, alpha=alpha, beta=beta, link=link).loss.backward()
        u, v = (y - ry) - (s - rs), (s - rs) - (p - rp)
    else:
        tspin_loss(y, s, p, alpha=alpha, beta=beta, link=link).loss.backward()
        u, v = y - s, s - p
    annotated = alpha * slope(link, alpha * u.detach()) / 5
    proto = -beta * alpha * slope(link, alpha * v.detach()) / 5
    assert torch.allclose(y.grad, annotated, rtol=1e-12)
    assert torch.allclose(s.grad, -(annotated + proto), rtol=1e-12)
    assert p.grad is None if beta == 0 else torch.allclose(p.grad, proto, rtol=1e-12)
    assert ry.grad is None and rs.grad is None and rp.grad is None


@pytest.mark.parametrize("link", LINKS)
def test_spin_gradients(link: Link) -> None:
    y, s, ry, rs = column(-3.0, 1.0), column(-2.0, 0.5), column(-3.5, 0.0), column(-1.0, 2.0)
    spin_loss(y, s, ry, rs, spin_lambda=0.3, link=link).loss.backward()
    z = 0.3 * ((y - ry) - (s - rs)).detach()
    expected = 0.3 * slope(link, z) / 2
    assert torch.allclose(y.grad, expected, rtol=1e-12)
    assert torch.allclose(s.grad, -expected, rtol=1e-12)
    assert ry.grad is None and rs.grad is None


def test_sft_gradient() -> None:
    y = column(-3.0, -4.0)
    sft_loss(y, torch.tensor([3, 1])).loss.backward()
    assert torch.allclose(y.grad, torch.full((2,), -1 / 4, dtype=torch.float64))


@pytest.mark.parametrize("link", LINKS)
def test_autograd_agrees_with_finite_differences(link: Link) -> None:
    def loss(*logps: Tensor) -> Tensor:
        return tspin_loss(*logps, alpha=0.5, beta=0.2, link=link).loss

    inputs = (column(-3.0, -1.0), column(-2.0, -2.5), column(-4.0, 0.0))
    assert torch.autograd.gradcheck(loss, inputs)


def test_large_margins_stay_finite() -> None:
    y = torch.tensor([1e4, -1e4], requires_grad=True)
    terms = tspin_loss(y, torch.zeros(2), None, alpha=1.0, beta=0.0)
    terms.loss.backward()
    assert terms.loss.item() == pytest.approx(1e4 / 2)
    assert torch.equal(y.grad, torch.tensor([0.0, -0.5]))


def test_a_y0_without_probability_does_not_reach_the_loss_at_beta_0() -> None:
    y = column(-1.0)
    terms = tspin_loss(y, column(-2.0), column(-math.inf), alpha=1.0, beta=0.0)
    terms.loss.backward()
    assert math.isfinite(terms.loss.item())
    assert y.grad.isfinite().all()


def test_only_the_loss_carries_gradients() -> None:
    terms = tspin_loss(column(-1.0), column(-2.0), column(-3.0), alpha=1.0, beta=0.1)
    assert terms.loss.requires_grad
    assert terms.losses is not None
    assert terms.losses.requires_grad
    others = [value for name, value in vars(terms).items() if name not in ("loss", "losses")]
    assert len(others) == 6
    assert not any(value.requires_grad for value in others)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: tspin_loss(a, a, None, alpha=1.0, beta=0.1), "beta is 0.1"),
        (lambda a: tspin_loss(a, a, a, alpha=1.0, beta=0.1, link="hinge"), "'hinge'"),
        (lambda a: tspin_ref_loss(a, a, a, a, a, None, alpha=1.0, beta=0.1), "reference_proto"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[Tensor], LossTerms], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(column(-1.0))


def test_length_normalised_divides_by_tokens() -> None:
    logps = length_normalised(column(-6.0, -4.0, 0.0), torch.tensor([3, 1, 0]))
    assert close(logps, -2.0, -4.0, 0.0)


def test_space_by_hand() -> None:
    terms = space_loss(column(-8.0), column(-9.0), column(-10.0), column(-12.0), noise_ratio=3.0)
    # r(y) = 2, r(y') = 3, s(x) = 1/(1+3e^-x).
    #   s(2) = 1/(1+3*0.1353352832) = 0.7112345942, -log = 0.3407529539
    #   s(3) = 1/(1+3*0.0497870684) = 0.8700485066, -log(1-s) = 2.0405940255, times 3 = 6.1217820766
    assert terms.loss.item() == pytest.approx(6.4625350306, abs=1e-9)
    assert close(terms.current_advantage, -1.0)
    assert close(terms.annotated_rewards, 2.0)
    assert close(terms.synthetic_rewards, 3.0)


@pytest.mark.parametrize("noise_ratio", [1.0, 3.0])
def test_space_gradients(noise_ratio: float) -> None:
    annotated, synthetic = column(-8.0, -30.0), column(-9.0, -20.0)
    reference = column(-10.0, -10.0), column(-12.0, -21.0)
    terms = space_loss(annotated, synthetic, *reference, noise_ratio=noise_ratio)
    terms.loss.backward()

    def s(value: float) -> float:
        return 1 / (1 + noise_ratio * math.exp(-value))

    assert annotated.grad is not None
    assert synthetic.grad is not None
    # d/dr of -log s(r) is -(1 - s(r)); of -mu log(1 - s(r)) it is mu s(r). Half of each: a mean.
    assert close(annotated.grad, -(1 - s(2.0)) / 2, -(1 - s(-20.0)) / 2)
    assert close(synthetic.grad, noise_ratio * s(3.0) / 2, noise_ratio * s(1.0) / 2)
    assert [one.grad for one in reference] == [None, None]
    slopes = [max(1 - s(r), noise_ratio * s(q)) for r, q in ((2.0, 3.0), (-20.0, 1.0))]
    assert close(terms.saturation, *slopes)


def test_space_has_a_gradient_where_the_gap_has_none() -> None:
    """Its difference from SPIN: what counts is each reward, and not how far they are apart."""
    far = column(20.0), column(-20.0)
    both = column(-30.0), column(-70.0)
    zero = column(0.0), column(0.0)
    near = spin_loss(*both, *zero, spin_lambda=1.0)
    assert near.loss.item() < 1e-9
    assert space_loss(*both, *zero).loss.item() == pytest.approx(30.0, abs=1e-9)
    assert space_loss(*far, *zero).loss.item() < 1e-8


def test_tspin_all_by_hand() -> None:
    logps = (column(-10.0), column(-12.0), column(-11.0), [column(-15.0), column(-11.5)])
    terms = tspin_all_loss(*logps, alpha=0.5, beta=0.1)
    # Halves: y -5, y' -6, y0 -5.5, y_1 -7.5, y_2 -5.75; f(z) = log(1+e^-z).
    # y over y_1, y_2, y': (f(2.5) + f(0.75) + f(1)) / 3
    #   = (0.0788897343 + 0.3868710061 + 0.3132616875) / 3 = 0.2596741426
    # y_1, y_2, y' over y0: f(-2) + f(-0.25) + f(-0.5)
    #   = 2.1269280110 + 0.8259394199 + 0.9740769842 = 3.9269444151
    # y_2, y' over y_1, y' over y_2: f(1.75) + f(1.5) + f(-0.25)
    #   = 0.1602241504 + 0.2014132780 + 0.8259394199 = 1.1875768483
    # 0.2596741426 + 0.1 * (3.9269444151 + 1.1875768483) / 6 = 0.3449161637
    assert terms.loss.item() == pytest.approx(0.3449161637, abs=1e-9)
    # What is logged is as in T-SPIN: y over the newest y', and that over y0.
    assert close(terms.current_advantage, 1.0)
    assert close(terms.historical_advantage, -0.5)


@pytest.mark.parametrize("link", LINKS)
def test_tspin_all_gradients(link: Link) -> None:
    y, s, p, first = column(-3.0, 1.0), column(-2.0, 0.5), column(-3.5, 0.0), column(-1.0, 2.0)
    tspin_all_loss(y, s, p, [first], alpha=0.7, beta=0.3, link=link).loss.backward()

    def pull(better: Tensor, worse: Tensor, weight: float) -> Tensor:
        return weight * 0.7 * slope(link, 0.7 * (better - worse).detach()) / 2

    over_s, over_first = pull(y, s, 1 / 2), pull(y, first, 1 / 2)
    later = [pull(*pair, 0.3 / 3) for pair in ((s, first), (s, p), (first, p))]
    assert torch.allclose(y.grad, over_s + over_first, rtol=1e-12)
    assert torch.allclose(s.grad, later[0] + later[1] - over_s, rtol=1e-12)
    assert torch.allclose(first.grad, later[2] - later[0] - over_first, rtol=1e-12)
    assert torch.allclose(p.grad, -later[1] - later[2], rtol=1e-12)
