"""What every contender is given: a model, triplets, a batch size, a device."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.training.gsm8k import GSM8K, gsm8k_lengths
from benchmarks.training.lengths import PROFILES, TripletLengths
from benchmarks.training.models import END_TOKEN, SHAPES, SPECIAL
from tspin.tokens.steps import StepSampler

__all__ = ["SEED", "Task", "TextTriplet"]

SEED = 0


@dataclass(frozen=True)
class TextTriplet:
    """Token ids of a prompt and of y, y' and y0; each response ends with the end token."""

    prompt: list[int]
    responses: tuple[list[int], list[int], list[int]]


@dataclass(frozen=True)
class Task:
    """One profile on one model: what is trained, the same for all contenders."""

    profile: str
    """A name of `lengths.PROFILES`, or gsm8k."""
    batch: int
    """Triplets (or pairs) an optimiser step; TRL takes them all in one forward pass."""
    steps: int
    """Optimiser steps of one training."""
    model: str
    """A name of `models.SHAPES`."""
    folder: str
    """Where the model's weights and tokenizer lie."""
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; weights that are trained stay float32."""
    lora: bool = False
    tokens: int | None = None
    """tspin's tokens a forward pass; None is its default."""
    gsm8k: str | None = None
    """GSM8K's train.jsonl, for that profile."""

    def lengths(self) -> list[TripletLengths]:
        """Tokens of the triplets of one training, in the order in which steps take them."""
        count = self.batch * self.steps
        if self.profile == GSM8K:
            return gsm8k_lengths(Path(self.gsm8k or ""), count, SEED)
        return PROFILES[self.profile].make(count, SEED)

    def triplets(self) -> list[TextTriplet]:
        """Random tokens of these lengths."""
        draw = random.Random(SEED)
        words = range(len(SPECIAL), SHAPES[self.model]["vocab_size"])

        def response(length: int) -> list[int]:
            return [*draw.choices(words, k=length - 1), END_TOKEN]

        return [
            TextTriplet(
                draw.choices(words, k=row.prompt),
                (
                    response(row.responses[0]),
                    response(row.responses[1]),
                    response(row.responses[2]),
                ),
            )
            for row in self.lengths()
        ]

    def order(self) -> list[int]:
        """Where tspin's trainer takes each triplet from, so that all steps can hold the same."""
        count = self.batch * self.steps
        sampler = StepSampler(
            [1] * count, global_batch_size=self.batch, cut=lambda share: [share], seed=SEED
        )
        return [index for step in range(self.steps) for index in sampler.step_indices(0, step)]
