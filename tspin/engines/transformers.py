"""The engine that runs everywhere: transformers' models, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import cast

import torch
from transformers import PreTrainedModel

from tspin.engines.base import (
    BATCHES_A_GROUP,
    Completion,
    GenerationRequest,
    SamplingParams,
    finished_completion,
)
from tspin.engines.decoding import decode
from tspin.engines.sampling import RowSampler
from tspin.errors import TspinError
from tspin.models.policy import Policy
from tspin.tokens.prompts import PromptTemplate

__all__ = ["TransformersEngine"]


class TransformersEngine:
    """Some requests at a time, in the order they come in, each drawn with its own seed.

    Where a response has ended, the next request takes its place, within a group of four batches
    that is finished before the next one begins: groups do not depend on where a run was continued,
    nor then do their responses, in any precision. Requests that are sorted by the length of their
    prompts need the least padding.

    Drafts are used in float32 only. A pass over several tokens rounds otherwise than one over a
    single token, which in float32 decides next to no draw, and in bfloat16 many a one.

    Of the model's own generation settings only the end tokens are used, which the template has
    (`PromptTemplate.stop_ids`); not top-k 50, repetition penalties and the like: responses are
    drawn from the policy itself, as the method needs.

    Args:
        policy: In evaluation mode, on its device.
        template: Gives stop tokens, padding and decoding.
        batch_size: Requests that are computed at the same time.
    """

    def __init__(self, policy: Policy, template: PromptTemplate, *, batch_size: int) -> None:
        # LoRA layers stand inside the base model, so that calling it calls them.
        inner = policy if isinstance(policy, PreTrainedModel) else policy.get_base_model()
        self._model: PreTrainedModel | None = cast(PreTrainedModel, inner)
        self._template = template
        self._batch_size = batch_size
        self._drafts = inner.dtype == torch.float32

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        """Answer requests group by group.

        Raises:
            TspinError: the GPU's memory does not suffice, or the model computes NaN.
        """
        left = iter(requests)
        while group := list(islice(left, BATCHES_A_GROUP * self._batch_size)):
            yield self._answer(group, sampling)

    def close(self) -> None:
        """Let go of the policy, and of the GPU memory it was in."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _answer(
        self, group: Sequence[GenerationRequest], sampling: SamplingParams
    ) -> list[Completion]:
        if self._model is None:
            raise TspinError("this engine is closed")
        ended = _Ending(self._template, sampling)
        try:
            rows = decode(
                self._model,
                [request.prompt_ids for request in group],
                width=self._batch_size,
                pad_token_id=self._template.pad_token_id,
                sampler=RowSampler(
                    sampling, [request.seed for request in group], self._model.device
                ),
                ended=ended,
                drafts=[request.draft_ids for request in group] if self._drafts else (),
            )
        except torch.OutOfMemoryError as error:
            raise TspinError(
                f"out of GPU memory with {self._batch_size} prompts a batch; lower "
                f"system.generate_batch_size and start again: {error}"
            ) from None
        return [
            finished_completion(request, emitted, sampling, self._template)
            for request, emitted in zip(group, rows, strict=True)
        ]


class _Ending:
    """Whether a row has ended: by an end token, by a stop string, or by its length."""

    def __init__(self, template: PromptTemplate, sampling: SamplingParams) -> None:
        self._template = template
        self._sampling = sampling
        # A token has at least one byte, so a string that ends here began in these last tokens.
        # Eight more: leading white space of a response is no part of its text.
        self._window = 8 + max((len(string.encode()) for string in sampling.stop), default=0)

    def __call__(self, emitted: Sequence[int]) -> bool:
        if emitted[-1] in self._template.stop_ids or len(emitted) >= self._sampling.max_new_tokens:
            return True
        if not self._sampling.stop:
            return False
        text = self._template.decode(emitted[-self._window :])
        return any(string in text for string in self._sampling.stop)
