"""Drawing tokens: exact, and from each row's own random stream."""

import math

import pytest
import torch

from tspin.engines import SamplingParams
from tspin.engines.sampling import RowSampler
from tspin.errors import TspinError

SAMPLED = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=1)


def _draws(scores: torch.Tensor, sampling: SamplingParams, seeds: range) -> torch.Tensor:
    rows = scores.expand(len(seeds), -1)
    sampler = RowSampler(sampling, list(seeds), torch.device("cpu"))
    return sampler.draw(rows, range(len(seeds)))


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        # p**(1/T) normalised, T = 0.5: 0.25, 0.09, 0.0225, 0.0025 over 0.365.
        (0.5, 1.0, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        # The smallest set with at least 0.7 is the first two: 0.5 / 0.8 and 0.3 / 0.8.
        (1.0, 0.7, [0.625, 0.375, 0.0, 0.0]),
    ],
)
def test_draws_follow_the_warped_distribution(temperature, top_p, expected):
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    count = 20_000
    draws = _draws(scores, SamplingParams(temperature, top_p, 1), range(count))
    shares = torch.bincount(draws, minlength=4) / count
    for share, wanted in zip(shares.tolist(), expected, strict=True):
        # Five standard errors of a share of 20,000 draws; exactly none where nothing may come.
        assert abs(share - wanted) <= 5 * math.sqrt(wanted * (1 - wanted) / count)


def test_two_distributions_share_their_noise_and_are_each_drawn_exactly():
    shares = [[0.5, 0.3, 0.15, 0.05], [0.4, 0.3, 0.1, 0.2]]
    count, apart = 20_000, 0.15  # Total variation: 0.1 less of the first, 0.05 of the third.
    first, second = (_draws(torch.tensor(p).log(), SAMPLED, range(count)) for p in shares)
    for draws, wanted in ((first, shares[0]), (second, shares[1])):
        found = (torch.bincount(draws, minlength=4) / count).tolist()
        for share, expected in zip(found, wanted, strict=True):
            assert abs(share - expected) <= 5 * math.sqrt(expected * (1 - expected) / count)
    # Gumbel noise that is shared draws the same at least (1 - d) / (1 + d) of the time, where d is
    # the total variation between them (Daliri et al., arXiv 2408.07978); drawn apart 0.315 of it.
    assert float((first == second).float().mean()) > (1 - apart) / (1 + apart)


def test_a_row_draws_the_same_alone_and_among_others():
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    together = _draws(scores, SAMPLED, range(8))
    alone = [int(_draws(scores, SAMPLED, range(seed, seed + 1))) for seed in range(8)]
    assert together.tolist() == alone
    assert len(set(alone)) > 1


def test_rows_draw_from_their_own_streams_whichever_are_there():
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))

    def draw(sampler: RowSampler, rows: list[int]) -> list[int]:
        return sampler.draw(scores.expand(len(rows), -1), rows).tolist()

    whole = RowSampler(SAMPLED, [1, 2, 3, 4], torch.device("cpu"))
    steps = [draw(whole, [0, 1, 2, 3]) for _ in range(6)]
    some = RowSampler(SAMPLED, [1, 2, 3, 4], torch.device("cpu"))
    assert draw(some, [0, 2]) == [steps[0][0], steps[0][2]]
    assert draw(some, [2, 1]) == [steps[1][2], steps[0][1]]
    assert draw(some, [3, 1, 2]) == [steps[0][3], steps[1][1], steps[2][2]]


def test_nan_logits_are_an_error():
    with pytest.raises(TspinError, match="NaN"):
        _draws(torch.tensor([0.0, math.nan]), SAMPLED, range(1))
