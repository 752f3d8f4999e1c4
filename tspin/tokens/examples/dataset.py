"""The examples of a training, as the trainer draws from them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from tspin.records.samples import EARLIER
from tspin.tokens.examples.example import ROLES, Example
from tspin.tokens.examples.packed import PackedExamples

__all__ = ["ExampleSizes", "Examples"]


@dataclass(frozen=True, slots=True)
class ExampleSizes(Sequence[tuple[int, int, int]]):
    """Of each example its tokens packed, of its longest sequence, and its responses."""

    packed: array[int]
    longest: array[int]
    responses: array[int]

    @classmethod
    def of(cls, examples: Iterable[Example]) -> ExampleSizes:
        """Go through examples once."""
        sizes = cls(array("i"), array("i"), array("i"))
        for example in examples:
            sizes.packed.append(example.packed_length)
            sizes.longest.append(example.length)
            sizes.responses.append(len(example.responses))
        return sizes

    def __len__(self) -> int:
        return len(self.packed)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> ExampleSizes: ...

    def __getitem__(self, index: int | slice) -> tuple[int, int, int] | ExampleSizes:
        """As of a list."""
        if isinstance(index, slice):
            return ExampleSizes(self.packed[index], self.longest[index], self.responses[index])
        return self.packed[index], self.longest[index], self.responses[index]


class Examples(Dataset[dict[str, Any]]):
    """The dataset that the trainer draws from; items are what `TripletCollator` takes.

    Attributes:
        rows: The examples.
        dropped: Ids of the records left out because they are longer than the limit.
        reference_logps: Summed logps of the reference policy in nats, shape (samples, roles), if
            the method needs them; see `places`.
    """

    def __init__(self, rows: Iterable[Example], dropped: Sequence[str] = ()) -> None:
        """Hold examples, at least one."""
        self.rows = rows if isinstance(rows, PackedExamples) else PackedExamples(rows)
        self.dropped = list(dropped)
        self.reference_logps: npt.NDArray[np.float64] | None = None
        self._starts = array("q", accumulate((row.samples for row in self.rows), initial=0))
        self._sizes = ExampleSizes.of(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, 0)

    def items(self, index: int) -> list[dict[str, Any]]:
        """What a collator takes of an example: an item for each y', which says its number."""
        samples = self._starts[index + 1] - self._starts[index]
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

    def sizes(self) -> ExampleSizes:
        """What each example takes in a forward pass."""
        return self._sizes

    def shortest(self) -> dict[str, Any]:
        """The example with the shortest sequence."""
        return self[min(range(len(self)), key=self._sizes.longest.__getitem__)]

    def extremes(self) -> list[tuple[list[int], list[list[int]]]]:
        """Prompt and responses of the shortest example and of the longest, by one sequence."""
        longest = self._sizes.longest.__getitem__
        shortest = min(range(len(self)), key=longest)
        rows = (self.rows[shortest], self.rows[max(reversed(range(len(self))), key=longest)])
        return [
            (row.prompt.tolist(), [response.tolist() for response in row.responses]) for row in rows
        ]

    def mean_length(self, role: int) -> float:
        """Mean over the prompts of one role's mean tokens, each response with its end token."""
        return float(self.rows.mean_lengths(role).mean())

    @property
    def nbytes(self) -> int:
        """Bytes that it holds besides `reference_logps`."""
        sizes = (self._sizes.packed, self._sizes.longest, self._sizes.responses)
        numbers = (self._starts, *sizes)
        return self.rows.nbytes + sum(len(one) * one.itemsize for one in numbers)
