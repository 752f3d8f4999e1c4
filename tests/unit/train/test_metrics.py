from __future__ import annotations

import pytest
import torch

from tspin.losses import sft_loss, tspin_loss
from tspin.train.metrics import StepMetrics, sample_metrics

LOGPS = torch.tensor([[-4.0, -8.0, -1.0], [-6.0, -2.0, -9.0], [-5.0, -9.0, -9.5]])
TOKENS = torch.tensor([[2, 4, 1], [3, 2, 3], [1, 1, 0]])
IDENTICAL = torch.tensor([False, False, True])


def values(at: slice) -> dict[str, torch.Tensor]:
    logps, tokens = LOGPS[:, at], TOKENS[:, at]
    terms = tspin_loss(*logps, alpha=0.5, beta=0.1)
    return sample_metrics(terms, logps, tokens, IDENTICAL[at], saturated_gradient=0.2)


def test_means_by_hand() -> None:
    metrics = StepMetrics()
    metrics.add(values(slice(0, 3)), triplets=3)
    means = metrics.drain(lambda sums: sums)
    margins = [0.5 * 2, 0.5 * -6, 0.5 * 8]
    assert means["rewards/margins"] == pytest.approx(sum(margins) / 3)
    assert means["rewards/historical_margins"] == pytest.approx(0.5 * (-1 + 7 + 0.5) / 3)
    assert means["rewards/accuracies"] == pytest.approx(2 / 3)
    # |l'(z)| = sigmoid(-z): 0.27, 0.95, 0.018; under 0.2 is the last.
    assert means["rewards/saturated"] == pytest.approx(1 / 3)
    assert means["rewards/annotated"] == pytest.approx(0.5 * -13 / 3)
    assert means["logps/synthetic"] == pytest.approx(-17 / 3)
    assert means["lengths/synthetic"] == pytest.approx(8 / 3)
    assert means["logps_per_token/annotated"] == pytest.approx(-13 / 7)
    assert means["logps_per_token/proto_synthetic"] == pytest.approx(-23.5 / 2)
    assert means["identical"] == pytest.approx(1 / 3)
    assert means["rewards/higher_but_less_likely"] == 0
    assert metrics.drain(lambda sums: sums) == {}


def test_each_triplet_counts_once_however_the_step_is_cut() -> None:
    whole, cut = StepMetrics(), StepMetrics()
    whole.add(values(slice(0, 3)), triplets=3)
    cut.add(values(slice(0, 2)), triplets=2)
    cut.add(values(slice(2, 3)), triplets=1)
    cut.add(values(slice(0, 1)), triplets=0)  # a stand-in
    expected = whole.drain(lambda sums: sums)
    assert cut.drain(lambda sums: sums) == pytest.approx(expected)


def test_samples_of_a_prompt_count_as_one_triplet() -> None:
    # The first two are the samples of one prompt: a mean of 1/2, 1/2 and 1.
    metrics = StepMetrics()
    metrics.add(values(slice(0, 3)), triplets=2, weights=torch.tensor([0.5, 0.5, 1.0]))
    means = metrics.drain(lambda sums: sums)
    assert means["rewards/margins"] == pytest.approx((0.5 * (2 - 6) / 2 + 0.5 * 8) / 2)
    assert means["rewards/accuracies"] == pytest.approx((1 / 2 + 1) / 2)
    assert means["logps/annotated"] == pytest.approx(((-4 - 8) / 2 - 1) / 2)


def test_processes_are_summed() -> None:
    one, two = StepMetrics(), StepMetrics()
    one.add(values(slice(0, 2)), triplets=2)
    two.add(values(slice(2, 3)), triplets=1)
    shared: list[torch.Tensor] = []
    two.drain(lambda sums: shared.append(sums) or sums)
    whole = StepMetrics()
    whole.add(values(slice(0, 3)), triplets=3)
    means = one.drain(lambda sums: sums + shared[0])
    assert means == pytest.approx(whole.drain(lambda sums: sums))


def test_higher_reward_but_less_likely() -> None:
    # Against a reference that liked y even less, its reward is higher; its likelihood is not.
    from tspin.losses import spin_loss

    logps = torch.tensor([[-9.0, -1.0], [-5.0, -2.0]])
    reference = torch.tensor([[-12.0, -1.0], [-5.0, -1.0]])
    terms = spin_loss(*logps, *reference, spin_lambda=0.1)
    found = sample_metrics(terms, logps, TOKENS[:2, :2], None, saturated_gradient=0.01)
    assert found["rewards/higher_but_less_likely"].tolist() == [1.0, 0.0]


def test_sft_has_no_rewards() -> None:
    terms = sft_loss(LOGPS[0], TOKENS[0])
    found = sample_metrics(terms, LOGPS[:1], TOKENS[:1], None, saturated_gradient=0.01)
    assert sorted(found) == ["lengths/annotated", "logps/annotated"]
