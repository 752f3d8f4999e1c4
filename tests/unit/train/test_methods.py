"""From the configured method to its loss: what is added to the papers' objectives."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tspin.config import Method
from tspin.train.arguments import TSPINConfig
from tspin.train.objective import method_loss

METHODS: tuple[Method, ...] = ("tspin", "tspin_no_history", "tspin_ref", "spin", "space")
TOKENS = torch.tensor([[5, 4], [3, 8], [6, 2]])


def made(folder: Path, method: Method, **settings: float | bool) -> tuple[float, list[float]]:
    """The loss, and its gradient in logp(y)."""
    logps = torch.tensor([[-10.0, -20.0], [-12.0, -19.0], [-11.0, -19.0]], dtype=torch.float64)
    logps.requires_grad_()
    args = TSPINConfig(output_dir=str(folder), use_cpu=True, method=method, **settings)
    pair = method in ("spin", "space", "tspin_no_history")
    used = slice(2) if pair else slice(3)
    terms = method_loss(args, logps[used], TOKENS[used], logps.detach()[used] - 1)
    (gradient,) = torch.autograd.grad(terms.loss, logps)
    return terms.loss.item(), gradient[0].tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("normalised", [False, True])
def test_the_likelihood_of_y_is_added_per_token(
    tmp_path: Path, method: Method, normalised: bool
) -> None:
    settings = {"length_normalised": normalised, "alpha": 0.5, "beta": 0.0}
    loss, gradient = made(tmp_path, method, **settings)
    more_loss, more_gradient = made(tmp_path, method, sft_weight=0.3, **settings)
    # (10/5 + 20/4) / 2 = 3.5 nats; a triplet's token counts 0.3 / tokens / 2.
    assert more_loss - loss == pytest.approx(0.3 * 3.5)
    added = [more - less for more, less in zip(more_gradient, gradient, strict=True)]
    assert added == pytest.approx([-0.3 / 5 / 2, -0.3 / 4 / 2])


def test_sft_has_no_second_likelihood(tmp_path: Path) -> None:
    loss, _ = made(tmp_path, "sft")
    assert made(tmp_path, "sft", sft_weight=0.3)[0] == loss == pytest.approx(30 / 9)


def test_a_prompt_counts_once_however_many_samples_it_has(tmp_path: Path) -> None:
    # Two samples of one prompt, then another prompt with one.
    annotated, proto = [-10.0, -10.0, -4.0], [-11.0, -11.0, -5.0]
    logps = torch.tensor([annotated, [-12.0, -9.0, -4.5], proto], dtype=torch.float64)
    tokens = torch.tensor([[5, 5, 4], [3, 8, 2], [6, 6, 2]])
    weights = torch.tensor([0.5, 0.5, 1.0])
    args = TSPINConfig(output_dir=str(tmp_path), use_cpu=True, beta=0.1, sft_weight=0.3)
    terms = method_loss(args, logps, tokens, None, weights)

    def one(u: float, v: float) -> float:
        return math.log1p(math.exp(-u)) + 0.1 * math.log1p(math.exp(-v))

    first, second, other = one(2.0, -1.0), one(-1.0, 2.0), one(0.5, 0.5)
    expected = ((first + second) / 2 + other) / 2 + 0.3 * (10 / 5 + 4 / 4) / 2
    assert terms.loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_equal_samples_are_one(tmp_path: Path, method: Method) -> None:
    columns = torch.tensor([[-10.0, -20.0], [-12.0, -19.0], [-11.0, -19.0]])
    args = TSPINConfig(output_dir=str(tmp_path), use_cpu=True, method=method, beta=0.1)
    used = slice(2) if method in ("spin", "space") else slice(3)
    logps, tokens = columns[used], TOKENS[used]
    plain = method_loss(args, logps, tokens, logps - 1)
    twice = logps[:, [0, 1, 1]], tokens[:, [0, 1, 1]], logps[:, [0, 1, 1]] - 1
    weighted = method_loss(args, *twice, torch.tensor([1.0, 0.5, 0.5]))
    assert weighted.loss.item() == pytest.approx(plain.loss.item())


def test_every_earlier_policy_is_in_the_loss(tmp_path: Path) -> None:
    """y, y', y0, y_1: one of the policies is between; normalised, in nats per token."""
    logps = torch.tensor([[-10.0], [-12.0], [-11.0], [-16.0]], dtype=torch.float64)
    tokens = torch.tensor([[5], [3], [11], [4]])
    common = {"use_cpu": True, "method": "tspin_all", "beta": 0.5}
    for normalised, (y, s, p, e) in ((False, (-10, -12, -11, -16)), (True, (-2, -4, -1, -4))):
        args = TSPINConfig(output_dir=str(tmp_path), length_normalised=normalised, **common)
        terms = method_loss(args, logps, tokens, None)

        def over(better: int, worse: int) -> float:
            return math.log1p(math.exp(worse - better))

        later = (over(s, e) + over(s, p) + over(e, p)) / 3
        assert terms.loss.item() == pytest.approx((over(y, s) + over(y, e)) / 2 + 0.5 * later)


def test_sdft_is_the_mean_over_tokens_then_samples_then_prompts(tmp_path: Path) -> None:
    logps = torch.full((2, 3), -9.0)
    tokens = torch.tensor([[5, 5, 4], [3, 8, 2]])
    args = TSPINConfig(output_dir=str(tmp_path), use_cpu=True, method="sdft")
    weights, divergences = torch.tensor([0.5, 0.5, 1.0]), torch.tensor([6.0, 4.0, 1.0])
    # Per token 2, 0.5 and 0.5; the first two are of one prompt: (1.25 + 0.5) / 2.
    terms = method_loss(args, logps, tokens, None, weights, divergences)
    assert terms.loss.item() == pytest.approx(0.875)
    assert method_loss(args, logps, tokens, None, None, divergences).loss.item() == 1.0
    assert terms.current_advantage is None
