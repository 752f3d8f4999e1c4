"""The most triplets (pairs, for TRL) in one forward and backward pass."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.request import Publish, Request
from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.longest_batch import largest
from benchmarks.training.task import Task

__all__ = ["measure"]

_CONTENDERS = ("tspin", "trl_reference")
_ALL_AT_ONCE = 2**40
"""Tokens a pass: never cut."""


def measure(request: Request, publish: Publish) -> None:
    """Try sizes until the memory is full, all in this process: a start takes as long as a try."""
    grain = request.sizes.grain
    result: dict[str, Any] = {"grain": grain, "contenders": {}}
    for name in _CONTENDERS:
        tried: list[dict[str, Any]] = []
        found: dict[str, Any] = {"tried": tried}
        result["contenders"][name] = found

        def fits(units: int, name: str = name, tried: list[dict[str, Any]] = tried) -> bool:
            task = _task(request, grain * units)
            fit = _fits(request, name, task)
            tried.append({"triplets": task.batch, "tokens": _tokens(name, task), "fits": fit})
            publish(result)
            return fit

        batch = grain * largest(fits)
        found |= {"triplets": batch, "tokens": _tokens(name, _task(request, batch)) if batch else 0}
        publish(result)


def _task(request: Request, batch: int) -> Task:
    sizes = request.sizes
    return Task(
        profile=sizes.profiles[0],
        batch=batch,
        steps=1,
        model=sizes.model,
        folder=str(request.model),
        device=sizes.device,
        dtype=sizes.dtype,
        tokens=_ALL_AT_ONCE,
    )


def _tokens(name: str, task: Task) -> int:
    """Positions of the pass: packed here, padded in TRL."""
    lengths = task.lengths()
    if name == "tspin":
        return sum(row.packed for row in lengths)
    rows = [row.prompt + length for row in lengths for length in row.responses[:2]]
    return len(rows) * max(rows)


def _fits(request: Request, name: str, task: Task) -> bool:
    """One training step; what it leaves is gone before the next try."""
    try:
        limit = request.sizes.limit_tokens
        if limit is not None and _tokens(name, task) > limit:
            raise torch.OutOfMemoryError(f"past {limit} tokens")
        _trained(CONTENDERS[name], task, Path(request.folder) / "longest")
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        gc.collect()
        if request.sizes.device == "cuda":
            torch.cuda.empty_cache()


def _trained(make: Callable[[Task, Path], Any], task: Task, out: Path) -> None:
    make(task, out).train()
