"""The engine that runs everywhere: `generate` of transformers, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)

from tspin.engines.base import Generation, GenerationRequest, SamplingParams, cut_at_stop
from tspin.engines.sampling import RowSampler, StopStrings
from tspin.errors import TspinError
from tspin.policy import Policy
from tspin.prompts import PromptTemplate

__all__ = ["TransformersEngine"]


class TransformersEngine:
    """Left-padded batches through `generate`, each row drawn with its own seed.

    Of the model's own generation settings (top-k 50, repetition penalties, several end tokens, ...)
    none is used: responses are drawn from the policy itself, as the method needs.

    Args:
        policy: In evaluation mode, on its device.
        template: Gives stop tokens, padding and decoding.
    """

    def __init__(self, policy: Policy, template: PromptTemplate) -> None:
        self._policy: Policy | None = policy
        self._template = template
        # A PEFT model passes its own settings on, or leaves it to the model inside.
        holders: list[Any] = [policy]
        if not isinstance(policy, PreTrainedModel):
            holders.append(policy.get_base_model())
        for holder in holders:
            holder.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def generate(
        self, batch: Sequence[GenerationRequest], sampling: SamplingParams
    ) -> list[Generation]:
        """Answer one batch, in its order.

        Raises:
            TspinError: the GPU's memory does not suffice, or the model computes NaN.
        """
        if self._policy is None:
            raise TspinError("this engine is closed")
        if not batch:
            return []
        device = self._policy.device
        input_ids, attention_mask = self._left_padded(batch, device)
        prompt_length = input_ids.shape[1]
        criteria = StoppingCriteriaList()
        stops = None
        if sampling.stop:
            stops = StopStrings(sampling.stop, self._template.decode, len(batch), prompt_length)
            criteria.append(stops)
        sampler = RowSampler(sampling, [request.seed for request in batch], device)
        try:
            # transformers' own signature knows no PEFT model; both have `generate`.
            output = cast(Any, self._policy).generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=self._settings(sampling),
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=criteria,
            )
        except torch.OutOfMemoryError as error:
            raise TspinError(
                f"out of GPU memory with {len(batch)} prompts a batch; lower "
                f"system.generate_batch_size: {error}"
            ) from None
        rows = output[:, prompt_length:].tolist()
        lengths = stops.lengths if stops else [None] * len(batch)
        return [
            self._finish(request, row[:length], sampling)
            for request, row, length in zip(batch, rows, lengths, strict=True)
        ]

    def close(self) -> None:
        """Let go of the policy, and of the GPU memory it was in."""
        self._policy = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _left_padded(
        self, batch: Sequence[GenerationRequest], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Input ids and attention mask, (batch, longest prompt) each."""
        longest = max(len(request.prompt_ids) for request in batch)
        input_ids = torch.full((len(batch), longest), self._template.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, request in enumerate(batch):
            start = longest - len(request.prompt_ids)
            input_ids[row, start:] = torch.tensor(request.prompt_ids)
            attention_mask[row, start:] = 1
        return input_ids.to(device), attention_mask.to(device)

    def _settings(self, sampling: SamplingParams) -> GenerationConfig:
        # Not do_sample: RowSampler's scores already are the draw, and the largest is taken.
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(self._template.stop_ids),
            pad_token_id=self._template.pad_token_id,
            use_cache=True,
        )

    def _finish(
        self, request: GenerationRequest, emitted: list[int], sampling: SamplingParams
    ) -> Generation:
        """A row's tokens, up to where it finished, as a response."""
        stop_ids = self._template.stop_ids
        length = next((at for at, index in enumerate(emitted) if index in stop_ids), None)
        text, stopped = cut_at_stop(self._template.decode(emitted), sampling.stop)
        return Generation(
            id=request.id,
            text=text,
            finish_reason="stop" if stopped or length is not None else "length",
            prompt_tokens=len(request.prompt_ids),
            response_tokens=len(emitted) if length is None else length,
            seed=request.seed,
        )
