"""One example: a prompt and the responses that a method's loss reads, as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tspin.config import SUPERVISED, TrainConfig
from tspin.records.samples import EARLIER

__all__ = ["ROLES", "Example", "Ids", "roles_of"]

Ids: TypeAlias = npt.NDArray[np.int32]

ROLES = ("annotated", "synthetic", "proto_synthetic")
"""y, y' and y0: the order of responses everywhere in training."""


def roles_of(train: TrainConfig, iteration: int) -> tuple[str, ...]:
    """The responses that a method's loss reads; y0 only where the historical advantage counts."""
    if train.method in SUPERVISED:
        return ROLES[:1]
    history = train.history_at(iteration)
    return (*ROLES[:2], *ROLES[2:][: len(history)], *(EARLIER for _ in history[1:]))


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the responses to train on, as token ids (4 bytes a token)."""

    id: str
    prompt: Ids
    responses: tuple[Ids, ...]
    """In the order of `roles_of`, as many as the method reads; each with its end token."""
    samples: int = 1
    """How many of the responses are y'."""
    teacher_prompt: Ids | None = None
    """The prompt with the annotation in it, where a method teaches the policy by that."""

    def of_sample(self, sample: int) -> tuple[Ids, ...]:
        """The responses with one y' alone: one of each role."""
        if len(self.responses) == 1:
            return self.responses
        annotated, synthetic = self.responses[0], self.responses[1 + sample]
        return (annotated, synthetic, *self.responses[1 + self.samples :])

    @property
    def identical(self) -> bool:
        """Whether all responses are the same tokens, so that nothing can be told from them."""
        first = self.responses[0]
        return all(np.array_equal(first, other) for other in self.responses[1:])

    @property
    def length(self) -> int:
        """Tokens of the longest sequence: the prompt, or the teacher's, and one response."""
        return self.prompt_length + max(len(response) for response in self.responses)

    @property
    def packed_length(self) -> int:
        """Tokens in a packed row: prompt and different responses, each without its last token."""
        different = {response.tobytes(): len(response) for response in self.responses}
        return self.prompt_length + sum(max(length - 1, 0) for length in different.values())

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt, or of the teacher's if that is longer."""
        taught = () if self.teacher_prompt is None else self.teacher_prompt
        return max(len(self.prompt), len(taught))
