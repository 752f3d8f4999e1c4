"""Drawing tokens row by row, each row with a random stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from tspin.engines.base import SamplingParams
from tspin.errors import TspinError

__all__ = ["RowSampler", "StopStrings"]


class RowSampler(LogitsProcessor):
    """Adds to each row's scores its own Gumbel noise, so that the largest is an exact draw.

    argmax(scores + Gumbel(0, 1)) is distributed as softmax(scores) (the Gumbel-max trick: Maddison
    et al., "A* Sampling", arXiv 1411.0030). The noise of a row comes from a generator with the
    row's seed and from nothing else, so a draw does not depend on the rows beside it.

    Args:
        sampling: Temperature and top-p; at temperature 0 the scores stay as they are.
        seeds: One a row.
        device: Where the scores are. CPU and GPU have different random streams.
    """

    def __init__(
        self, sampling: SamplingParams, seeds: Sequence[int], device: torch.device
    ) -> None:
        self._generators = []
        self._warpers = LogitsProcessorList()
        self._first = True
        if sampling.temperature == 0:
            return
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1:
            self._warpers.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Scores (batch, vocabulary) whose argmax is the next token.

        Raises:
            TspinError: the model's first scores are not numbers.
        """
        if self._first and bool(scores.isnan().any()):
            raise TspinError("the model's logits are NaN: its weights are broken")
        self._first = False
        if not self._generators:
            return scores
        warped: torch.Tensor = self._warpers(input_ids, scores)
        # float64: in float32 the noise of the 2**24th part of all draws would be infinite.
        noise = torch.empty(warped.shape, dtype=torch.float64, device=warped.device)
        for row, generator in zip(noise, self._generators, strict=True):
            row.uniform_(generator=generator)
        exponential = -torch.log1p(-noise.clamp_(min=2.0**-54))
        return warped.double() - exponential.log()


class StopStrings(StoppingCriteria):
    """Finishes a row when its response contains one of the stop strings.

    Attributes:
        lengths: For each row the number of response tokens when it finished, or None.
    """

    def __init__(
        self, stop: Sequence[str], decode: Callable[[list[int]], str], rows: int, prompt_length: int
    ) -> None:
        self.lengths: list[int | None] = [None] * rows
        self._stop = stop
        self._decode = decode
        self._prompt_length = prompt_length
        # A token has at least one byte, so a string that ends here began in these last tokens.
        # Eight more: leading white space of a response is no part of its text.
        self._window = max(len(string.encode()) for string in stop) + 8

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor | None, **kwargs: object
    ) -> torch.Tensor:
        """Which rows (batch,) are finished."""
        total = input_ids.shape[1]
        start = max(self._prompt_length, total - self._window)
        for row, tail in enumerate(input_ids[:, start:].tolist()):
            if self.lengths[row] is None:
                text = self._decode(tail)
                if any(string in text for string in self._stop):
                    self.lengths[row] = total - self._prompt_length
        done = [length is not None for length in self.lengths]
        return torch.tensor(done, device=input_ids.device)
