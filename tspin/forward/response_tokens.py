"""Where response tokens are predicted, in padded and packed batches, and sums over responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tspin.attention.interface import TREE

__all__ = ["ResponseTokens"]


class ResponseTokens:
    """Where the response tokens of a batch are predicted: N of them, in R responses.

    Attributes:
        targets: (N,) the tokens.
        counts: (R,) of each response.
        layout: What the model's layers must be told besides its inputs.
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        """From a batch of `tspin.tokens.collator` or of `tspin.tokens.packing`."""
        self.layout = {TREE: batch[TREE]} if TREE in batch else {}
        self._rows: Tensor | None = batch.get("rows")
        if self.layout:
            lengths_U = batch["lengths"]
            position = torch.arange(int(lengths_U.max()), device=lengths_U.device)
            self._mask = position < lengths_U[:, None]
            self._predicted_at_N = batch["predicted_at"]
            self.targets = batch["targets"]
        else:
            # The token at t is predicted at t - 1; the first of a row is predicted by nothing.
            self._mask = batch["response_mask"][:, 1:]
            row_N, before_N = self._mask.nonzero(as_tuple=True)
            self._predicted_at_N = row_N * batch["input_ids"].shape[1] + before_N
            self.targets = batch["input_ids"].flatten()[self._predicted_at_N + 1]
        self.counts = self._of_responses(self._mask.sum(dim=1))

    def select(self, values: Tensor) -> Tensor:
        """From (rows, L, X) the (N, X) of the positions that predict a response token."""
        return values.flatten(0, 1).index_select(0, self._predicted_at_N)

    def sums(self, values: Tensor) -> Tensor:
        """From (N,) to (R,), from (N, X) to (R, X): sums over the tokens of each response."""
        # Not index_add, which adds in no fixed order on a GPU.
        grid = values.new_zeros((*self._mask.shape, *values.shape[1:]))
        mask = self._mask.reshape(*self._mask.shape, *[1] * (values.dim() - 1)).expand_as(grid)
        return self._of_responses(grid.masked_scatter(mask, values).sum(dim=1))

    def _of_responses(self, values: Tensor) -> Tensor:
        return values if self._rows is None else values[self._rows]
