"""The examples of a training, as the trainer draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from tspin.records.samples import EARLIER
from tspin.tokens.examples.example import ROLES, Example

__all__ = ["Examples"]


@dataclass
class Examples(Dataset[dict[str, Any]]):
    """The dataset that the trainer draws from; items are what `TripletCollator` takes."""

    rows: list[Example]
    dropped: list[str] = field(default_factory=list)
    """Ids of the records left out because they are longer than the limit."""
    reference_logps: npt.NDArray[np.float64] | None = None
    """Summed logps of the reference policy in nats, shape (samples, roles), if the method needs
    them; see `places`."""

    def __post_init__(self) -> None:
        self._starts = [0, *accumulate(row.samples for row in self.rows)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, 0)

    def items(self, index: int) -> list[dict[str, Any]]:
        """What a collator takes of an example: an item for each y', which says its number."""
        samples = self.rows[index].samples
        if samples == 1:
            return [self[index]]
        return [self._item(index, sample) | {"sample": sample} for sample in range(samples)]

    def places(self, indices: Sequence[int]) -> list[int]:
        """Numbers of these examples' samples, among those of all examples in their order."""
        return [
            place
            for index in indices
            for place in range(self._starts[index], self._starts[index + 1])
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """Samples of all examples, and roles."""
        return self._starts[-1], len(self.rows[0].of_sample(0))

    def _item(self, index: int, sample: int) -> dict[str, Any]:
        row, known = self.rows[index], self.reference_logps
        ids = [response.tolist() for response in row.of_sample(sample)]
        names = (*ROLES, *(f"{EARLIER}_{number}" for number in range(1, len(ids) - 2)))
        responses = dict(zip((f"{name}_ids" for name in names), [*ids, None, None], strict=False))
        place = self._starts[index] + sample
        taught = row.teacher_prompt
        teacher = {} if taught is None else {"teacher_prompt_ids": taught.tolist()}
        return teacher | {
            "id": row.id,
            "prompt_ids": row.prompt.tolist(),
            **responses,
            "reference_logps": None if known is None else known[place].tolist(),
        }

    @property
    def further(self) -> int:
        """Examples beside the first of their prompt: what a `Selection` has added."""
        return len(self.rows) - len({row.id for row in self.rows})

    def sizes(self) -> list[tuple[int, int, int]]:
        """Of each example its tokens packed, of its longest sequence, and its responses."""
        return [(row.packed_length, row.length, len(row.responses)) for row in self.rows]

    def shortest(self) -> dict[str, Any]:
        """The example with the shortest sequence."""
        return self[min(range(len(self)), key=lambda index: self.rows[index].length)]

    def extremes(self) -> list[tuple[list[int], list[list[int]]]]:
        """Prompt and responses of the shortest example and of the longest, by one sequence."""
        by_length = sorted(self.rows, key=lambda row: row.length)
        return [
            (row.prompt.tolist(), [response.tolist() for response in row.responses])
            for row in (by_length[0], by_length[-1])
        ]

    def mean_length(self, role: int) -> float:
        """Mean over the prompts of one role's mean tokens, each response with its end token."""
        means = (
            sum(len(row.of_sample(sample)[role]) for sample in range(row.samples)) / row.samples
            for row in self.rows
        )
        return sum(means) / len(self.rows)
