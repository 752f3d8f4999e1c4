"""Responses by vLLM, then a training in the same process: whether the memory came back."""

from __future__ import annotations

import random
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.peak import Peak, resident
from benchmarks.gpu.request import NotRunError, Publish, Request
from benchmarks.gpu.trainings import lengths_of, training_config, training_job, write_triplets
from benchmarks.training.models import SHAPES, SPECIAL
from tspin.config import RunConfig
from tspin.engines import Engine, SamplingParams, open_engine
from tspin.engines.base import GenerationRequest
from tspin.engines.choice import find_vllm
from tspin.tokens.loading import load_template
from tspin.train.step import train

__all__ = ["generate_and_train", "measure"]

_QUICK = {
    "enforce_eager": True,
    "distributed_executor_backend": "uni",
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 2**26,
}
"""On a CPU, where its figures mean nothing: it starts sooner, in little memory."""
_STEPS = 3
_LOST = 2**31
"""Bytes that may be gone once the engine is closed: contexts and libraries of this process."""


def measure(request: Request, publish: Publish) -> None:
    """With vLLM, where it is installed.

    Raises:
        NotRunError: it is not.
    """
    vllm = find_vllm()
    if vllm is None:
        raise NotRunError("vLLM is not installed here; --vllm-python names an interpreter with it")
    if request.sizes.device == "cuda" and vllm.on_cpu:
        raise NotRunError(f"{vllm.name} {vllm.version} computes on the CPU")
    generate_and_train(request, publish, "vllm")


def generate_and_train(request: Request, publish: Publish, engine: str) -> None:
    """Answer prompts, close the engine, train, and note the memory in between.

    Args:
        request: Sizes and model.
        publish: Gets what is found.
        engine: As `generate.engine` names it.

    Raises:
        RuntimeError: much of the memory did not come back.
    """
    config = _config(request, engine)
    result: dict[str, Any] = {"engine": engine, "free_bytes": {"before": _free(request)}}
    began = time.perf_counter()
    template = load_template(config.model.path, config.model, config.prompt)
    with closing(open_engine(config, config.model.path, template)) as opened:
        result["start_seconds"] = time.perf_counter() - began
        result["free_bytes"]["with the engine"] = _free(request)
        result |= _answered(opened, request)
        publish(result)
    result["free_bytes"]["after it"] = _free(request)
    publish(result)
    lost = result["free_bytes"]["before"] - result["free_bytes"]["after it"]
    if lost > _LOST:
        raise RuntimeError(f"{lost / 2**30:.1f} GiB did not come back when the engine was closed")
    result["training"] = _trained(request, config)
    publish(result)


def _config(request: Request, engine: str) -> RunConfig:
    quick = _QUICK if (engine, request.sizes.device) == ("vllm", "cpu") else {}
    lengths = lengths_of(request.sizes, _count(request))
    longest = max(row.prompt + max(row.responses) for row in lengths)
    section = {
        "engine": engine,
        "max_new_tokens": request.sizes.new_tokens,
        "engine_args": quick,
    }
    length = max(longest, 4 * request.sizes.new_tokens)
    return training_config(request, request.model, length, generate=section)


def _count(request: Request) -> int:
    return request.sizes.batch * _STEPS


def _free(request: Request) -> int:
    """Bytes that the GPU has left; on a CPU, what this process leaves of 64 GiB."""
    if request.sizes.device == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
    return 2**36 - resident("VmRSS")


def _answered(engine: Engine, request: Request) -> dict[str, Any]:
    """Sample from random words; a random model hardly ever ends by itself."""
    sizes, draw = request.sizes, random.Random(0)
    names = range(len(SPECIAL), SHAPES[sizes.model]["vocab_size"])
    prompts = [row.prompt for row in lengths_of(sizes, sizes.prompts)]
    room = 2 * sizes.new_tokens
    requests = [
        GenerationRequest(str(number), tuple(draw.choices(names, k=min(tokens, room))), number)
        for number, tokens in enumerate(prompts)
    ]
    sampling = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=sizes.new_tokens)
    # What the first ones wait for, captured graphs and compiled kernels, is not throughput.
    warm = requests[: len(requests) // 10]
    for _ in engine.generate(warm, sampling):
        pass
    began = time.perf_counter()
    completions = [one for group in engine.generate(requests, sampling) for one in group]
    seconds = time.perf_counter() - began
    tokens = sum(one.response_tokens + (one.finish_reason == "stop") for one in completions)
    return {
        "prompts": len(completions),
        "prompt_tokens": sum(one.prompt_tokens for one in completions),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def _trained(request: Request, config: RunConfig) -> dict[str, Any]:
    folder = Path(request.folder) / "generation"
    folder.mkdir()
    triplets = write_triplets(folder / "triplets.jsonl", request, _count(request))
    job = training_job(config, triplets, folder / "trained")
    peak, began = Peak(request.sizes.device), time.perf_counter()
    manifest = train(config, model=job.model, triplets=triplets, iteration=1, out=job.out)
    return {
        "steps": manifest.counts["steps"],
        "seconds": time.perf_counter() - began,
        "allocated_bytes": peak.allocated,
    }
