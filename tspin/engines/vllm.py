"""The engine for GPUs: vLLM in processes of its own, with many requests in flight at a time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import difflib
import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tspin.config import RunConfig
from tspin.engines.base import Completion, GenerationRequest, SamplingParams, finished_completion
from tspin.engines.event_loop import EventLoop
from tspin.engines.lifeline import Lifeline
from tspin.engines.vllm_args import adapter_folder, vllm_args, vllm_environment
from tspin.errors import InputError, TspinError
from tspin.models.folder import ModelFolder, find_model
from tspin.tokens.prompts import PromptTemplate

__all__ = ["VllmEngine", "open_vllm"]

_GROUP_SECONDS = 1.0
"""What finishes within this time becomes durable together."""


def open_vllm(config: RunConfig, model: str | ModelFolder, template: PromptTemplate) -> VllmEngine:
    """Start vLLM with a policy: full weights, or a LoRA adapter served on its base.

    Args:
        config: `generate`, `model` and `system` decide its arguments.
        model: A model folder, an adapter folder, or a name on the Hub.
        template: Of the model's tokenizer.

    Raises:
        InputError: see `tspin.engines.vllm_args.vllm_args`, or vLLM refuses an argument.
        TspinError: vLLM did not start.
    """
    folder = find_model(model, config.model)
    arguments = vllm_args(config, folder)
    return VllmEngine(arguments, template, adapter=adapter_folder(folder, config.model))


class VllmEngine:
    """Keeps vLLM's scheduler full; finished responses come about once a second.

    The model lives in processes that are gone, with all memory they had, when `close` returns, and
    when this process ends in any way.

    Args:
        arguments: Of vLLM's `AsyncEngineArgs`.
        template: Gives stop tokens and decoding.
        adapter: Folder of a LoRA adapter on the model.
    """

    def __init__(
        self, arguments: Mapping[str, Any], template: PromptTemplate, *, adapter: str | None = None
    ) -> None:
        self._template = template
        self._lora: Any = None
        self._lifeline = Lifeline()
        try:
            with vllm_environment(self._lifeline.mark):
                settings = _settings(arguments)
                self._llm = _started(settings)
                if adapter is not None:
                    from vllm.lora.request import LoRARequest

                    self._lora = LoRARequest("policy", 1, adapter)
        except BaseException:
            self._lifeline.cut()
            raise
        copies = settings.parallel_config.data_parallel_size
        # Twice: the next ones wait where the scheduler finds them when some have finished.
        self._in_flight = 2 * copies * settings.scheduler_config.max_num_seqs
        self._loop = EventLoop("vllm")

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        """Answer requests as vLLM schedules them.

        Raises:
            TspinError: vLLM failed, or this engine is closed.
        """
        if self._llm is None:
            raise TspinError("this engine is closed")
        left, finished = iter(requests), deque[Completion]()
        workers = [
            self._loop.start(self._work(left, sampling, finished)) for _ in range(self._in_flight)
        ]
        try:
            busy = True
            while busy:
                done, busy_ones = concurrent.futures.wait(
                    workers, _GROUP_SECONDS, concurrent.futures.FIRST_EXCEPTION
                )
                busy = bool(busy_ones)
                for worker in done:
                    worker.result()
                if group := [finished.popleft() for _ in range(len(finished))]:
                    yield group
        finally:
            for worker in workers:
                worker.cancel()

    def close(self) -> None:
        """End vLLM's processes; all their memory is free when this returns."""
        if self._llm is None:
            return
        # First whoever waits for an answer: vLLM reports an engine that is gone as an accident.
        self._loop.cancel_all()
        self._llm.shutdown(timeout=0)
        self._llm = None
        self._loop.close()
        self._lifeline.cut()
        gc.collect()  # vLLM's finaliser fails when it first runs as the interpreter ends.

    async def _work(
        self,
        left: Iterator[GenerationRequest],
        sampling: SamplingParams,
        finished: deque[Completion],
    ) -> None:
        """Answer one request after another, until none is left."""
        for request in left:
            emitted = await self._emitted(request, sampling)
            finished.append(finished_completion(request, emitted, sampling, self._template))

    async def _emitted(self, request: GenerationRequest, sampling: SamplingParams) -> list[int]:
        from vllm.exceptions import VLLMServerError
        from vllm.inputs.engine import tokens_input

        outputs = self._llm.generate(
            tokens_input(list(request.prompt_ids)),
            _vllm_sampling(request, sampling, self._template),
            request_id=f"{request.id}/{request.sample}",
            lora_request=self._lora,
        )
        try:
            async for output in outputs:
                answer = output.outputs[0]
                if answer.finish_reason in ("stop", "length"):
                    return list(answer.token_ids)
        except VLLMServerError as error:
            raise TspinError(f"vLLM failed; what its processes wrote says why: {error}") from error
        raise TspinError(f"vLLM gave up on the request {request.id!r}")


def _vllm_sampling(
    request: GenerationRequest, sampling: SamplingParams, template: PromptTemplate
) -> Any:
    import vllm
    from vllm.sampling_params import RequestOutputKind

    return vllm.SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        seed=None if sampling.temperature == 0 else request.seed,
        stop=list(sampling.stop),
        stop_token_ids=list(template.stop_ids),
        ignore_eos=True,  # Those of the template are all there are.
        detokenize=bool(sampling.stop),
        # Stop strings are looked for in the text that `finished_completion` makes.
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _settings(arguments: Mapping[str, Any]) -> Any:
    """All of vLLM's settings that follow from its arguments; nothing is loaded."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    known = [field.name for field in dataclasses.fields(AsyncEngineArgs)]
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean '{near[0]}'" if near else ""
            raise InputError(f"generate.engine_args: vLLM has no argument '{name}'{meant}")
    try:
        return AsyncEngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"generate.engine_args: vLLM refuses them: {error}") from error


def _started(settings: Any) -> Any:
    """The engine, when its processes have loaded the model."""
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        # No name for it here: vLLM keeps this frame alive, and what it names with it.
        return AsyncLLM.from_vllm_config(settings, disable_log_stats=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise TspinError(
            f"vLLM did not start; what its processes wrote says why: {error}"
        ) from error
