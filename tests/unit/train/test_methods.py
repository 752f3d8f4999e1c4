"""From the configured method to its loss: what is added to the papers' objectives."""

from __future__ import annotations

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
