"""Tokens a second, model FLOP utilisation and peak memory of a training step, beside TRL's."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.plan import Sizes
from benchmarks.gpu.request import Publish, Request
from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.lengths import TripletLengths
from benchmarks.training.peak_memory import peaks
from benchmarks.training.result import profile_result
from benchmarks.training.rounds import Round, run_rounds
from benchmarks.training.task import Task
from tspin.config import ModelConfig
from tspin.forward.flops import PassFlops, matrix_rate
from tspin.models.shape import empty_model

__all__ = ["measure"]

_REPEATS = 5


def measure(request: Request, publish: Publish) -> None:
    """Time all contenders in rounds, profile by profile, then measure their memory."""
    sizes = request.sizes
    torch.set_num_threads(1 if sizes.device == "cpu" else torch.get_num_threads())
    flops = PassFlops.of_model(empty_model(ModelConfig(path=str(request.model))))
    result: dict[str, Any] = {"matrix_flops_per_second": _rate(sizes), "profiles": {}}
    for profile in sizes.profiles:
        task = _task(request, profile)
        rounds: list[Round] = []
        for one in run_rounds(task, sizes.rounds, Path(request.folder) / "step"):
            rounds.append(one)
            # Until memory is measured too: what is there if the time is over before.
            result["profiles"][profile] = {"seconds": [each.seconds for each in rounds]}
            publish(result)
        memory = peaks(replace(task, steps=min(task.steps, 2)), list(CONTENDERS))
        found = profile_result(task, rounds, memory)
        found["contenders"] = _speeds(task, found["per_second"], flops, result)
        result["profiles"][profile] = found
        publish(result)


def _task(request: Request, profile: str) -> Task:
    sizes = request.sizes
    return Task(
        profile=profile,
        batch=sizes.batch,
        steps=sizes.steps,
        model=sizes.model,
        folder=str(request.model),
        device=sizes.device,
        dtype=sizes.dtype,
    )


def _rate(sizes: Sizes) -> float:
    """Operations a second of the product of two large matrices."""
    dtype, device = getattr(torch, sizes.dtype), torch.device(sizes.device)
    if device.type == "cuda":
        return matrix_rate(device, dtype)
    left, right = (torch.randn(sizes.matrix, sizes.matrix, dtype=dtype) for _ in range(2))
    torch.matmul(left, right)
    began = time.process_time()
    for _ in range(_REPEATS):
        torch.matmul(left, right)
    return _REPEATS * 2 * sizes.matrix**3 / (time.process_time() - began)


def _speeds(
    task: Task, per_second: dict[str, float], flops: PassFlops, result: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Of each contender what it has to compute a second, padding and repetition not counted.

    Args:
        task: What was trained.
        per_second: Triplets (pairs) by contender.
        flops: Of the model.
        result: With the rate of the device.
    """
    lengths, rate = task.lengths(), result["matrix_flops_per_second"]
    speeds = {}
    for name, triplets in per_second.items():
        tokens = sum(_tokens(name, row) for row in lengths) / len(lengths)
        operations = sum(_operations(name, row, flops) for row in lengths) / len(lengths)
        speeds[name] = {
            "triplets_per_second": triplets,
            "tokens_per_second": triplets * tokens,
            "mfu": triplets * operations / rate,
        }
    return speeds


def _tokens(name: str, row: TripletLengths) -> int:
    """Tokens that go through the policy: a prompt once here, in TRL once a response."""
    if name == "tspin":
        return row.packed
    used = row.responses[:2]
    if name == "tspin_iteration0":
        return row.prompt + sum(length - 1 for length in used)
    return sum(row.prompt + length for length in used)


def _operations(name: str, row: TripletLengths, flops: PassFlops) -> float:
    """Of the method: TRL's forward pass of the reference is one of them."""
    if name.startswith("tspin"):
        used = row.responses if name == "tspin" else row.responses[:2]
        return flops.of_lengths(row.prompt, used, backward=True)
    passes = (True, False) if name == "trl_reference" else (True,)
    return sum(
        flops.of_lengths(row.prompt, [length], backward=backward)
        for length in row.responses[:2]
        for backward in passes
    )
