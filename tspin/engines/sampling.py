"""Drawing tokens row by row, each row with a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from tspin.engines.base import SamplingParams
from tspin.errors import TspinError

__all__ = ["RowSampler"]


class RowSampler:
    """Draws each row's token as the largest of its scores plus Gumbel noise of its own.

    argmax(scores + Gumbel(0, 1)) is distributed as softmax(scores) (the Gumbel-max trick: Maddison
    et al., "A* Sampling", arXiv 1411.0030). The noise of a row comes from a generator with the
    row's seed and from nothing else, so a draw does not depend on the rows beside it.

    Args:
        sampling: Temperature and top-p; at temperature 0 the likeliest token is taken.
        seeds: One a row.
        device: Where the scores are. CPU and GPU have different random streams.
    """

    def __init__(
        self, sampling: SamplingParams, seeds: Sequence[int], device: torch.device
    ) -> None:
        self._greedy = sampling.temperature == 0
        self._generators = []
        self._warpers = LogitsProcessorList()
        self._first = True
        if self._greedy:
            return
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1:
            self._warpers.append(TopPLogitsWarper(sampling.top_p))

    def draw(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The next token (n,) of some rows, from their logits (n, vocabulary).

        Raises:
            TspinError: the model's first logits are not numbers.
        """
        if self._first and bool(logits.isnan().any()):
            raise TspinError("the model's logits are NaN: its weights are broken")
        self._first = False
        if self._greedy:
            return logits.argmax(dim=-1)
        # None: these two warpers do not look at the tokens so far.
        warped = self._warpers(cast(torch.LongTensor, None), cast(torch.FloatTensor, logits))
        # float64: in float32 the noise of the 2**24th part of all draws would be infinite.
        noise = torch.empty(warped.shape, dtype=torch.float64, device=warped.device)
        for values, row in zip(noise, rows, strict=True):
            values.uniform_(generator=self._generators[row])
        exponential = -torch.log1p(-noise.clamp_(min=2.0**-54))
        return (warped.double() - exponential.log()).argmax(dim=-1)
