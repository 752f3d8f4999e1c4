"""Many examples in few buffers, so that memory holds their tokens and little else."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from tspin.tokens.compact import Ragged, Texts
from tspin.tokens.examples.example import Example

__all__ = ["PackedExamples"]


class PackedExamples(Sequence[Example]):
    """Examples that are made when asked for, as views of the buffers that hold all their tokens.

    An example takes 4 bytes a token, a byte a character of its id, 8 bytes a sequence, and 29. A
    prompt that several examples have, one after the other, is held once.
    """

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        """Take examples in; more can follow by `append` until the first is read."""
        self._ids = Texts()
        self._prompts, self._responses = Ragged("i"), Ragged("i")
        # Of each example: its prompt, after which comes the teacher's; its responses and samples.
        self._prompt_at, self._taught = array("q"), array("b")
        self._ends, self._samples = array("q", [0]), array("i")
        self._last: Example | None = None
        for example in examples:
            self.append(example)

    def append(self, example: Example) -> None:
        """Add an example."""
        last, taught = self._last, example.teacher_prompt
        if last is not None and last.prompt is example.prompt and last.teacher_prompt is taught:
            self._prompt_at.append(self._prompt_at[-1])
        else:
            self._prompt_at.append(len(self._prompts))
            for prompt in (example.prompt, *(() if taught is None else (taught,))):
                self._prompts.append(prompt.tolist())
        for response in example.responses:
            self._responses.append(response.tolist())
        self._ids.append(example.id)
        self._taught.append(taught is not None)
        self._ends.append(len(self._responses))
        self._samples.append(example.samples)
        self._last = example

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """As of a list."""
        if isinstance(index, slice):
            return [self._example(at) for at in range(len(self))[index]]
        return self._example(range(len(self))[index])

    def __iter__(self) -> Iterator[Example]:
        return map(self._example, range(len(self)))

    def _example(self, at: int) -> Example:
        prompt = self._prompt_at[at]
        return Example(
            id=self._ids[at],
            prompt=self._prompts[prompt],
            responses=tuple(map(self._responses.__getitem__, range(*self._ends[at : at + 2]))),
            samples=self._samples[at],
            teacher_prompt=self._prompts[prompt + 1] if self._taught[at] else None,
        )

    def mean_lengths(self, role: int) -> npt.NDArray[np.float64]:
        """Tokens of the responses of one role: of each example, the mean over its samples."""
        samples = np.frombuffer(self._samples, np.int32).astype(np.int64)
        first = np.frombuffer(self._ends, np.int64)[:-1]
        begin = first + (samples + role - 1 if role > 1 else role)
        end = begin + (samples if role == 1 else 1)
        tokens = np.concatenate(([0], np.cumsum(self._responses.lengths())))
        means: npt.NDArray[np.float64] = (tokens[end] - tokens[begin]) / (end - begin)
        return means

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        parts = (self._ids, self._prompts, self._responses)
        numbers = (self._prompt_at, self._taught, self._ends, self._samples)
        return sum(part.nbytes for part in parts) + sum(len(one) * one.itemsize for one in numbers)
