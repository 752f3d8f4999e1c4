"""An engine without a model, for tests and dry runs of a whole pipeline."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from tspin.engines.base import Completion, GenerationRequest, SamplingParams, cut_at_stop
from tspin.tokens.prompts import PromptTemplate

__all__ = ["FakeEngine"]

_WORDS = ("so", "the", "answer", "is", "12", "and", "46", "a", "city", "apples")


class FakeEngine:
    """Answers with random words, decided by the seed, or by the prompt at temperature 0."""

    def __init__(self, template: PromptTemplate, *, batch_size: int = 32) -> None:
        self._template = template
        self._batch_size = batch_size

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        """Answer requests batch by batch."""
        left = iter(requests)
        while batch := list(islice(left, self._batch_size)):
            yield [self._answer(request, sampling) for request in batch]

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, request: GenerationRequest, sampling: SamplingParams) -> Completion:
        greedy = sampling.temperature == 0
        draw = random.Random(repr(request.prompt_ids) if greedy else request.seed)
        ids = self._template.response_ids(" ".join(draw.choices(_WORDS, k=draw.randint(0, 12))))
        finished = len(ids) <= sampling.max_new_tokens
        emitted = ids[:-1] if finished else ids[: sampling.max_new_tokens]
        text, stopped = cut_at_stop(self._template.decode(emitted), sampling.stop)
        return Completion(
            id=request.id,
            text=text,
            finish_reason="stop" if finished or stopped else "length",
            prompt_tokens=len(request.prompt_ids),
            response_tokens=len(emitted),
            seed=request.seed,
            sample=request.sample,
        )
