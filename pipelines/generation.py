"""Responses of a policy: one task, or one a shard and a merge."""

from __future__ import annotations

from typing import Any

from kfp import dsl

from components.generate import generate
from components.merge_responses import merge_responses
from pipelines.plan import Plan

__all__ = ["responses"]


def responses(
    plan: Plan, title: str, *, settings: Any, iteration: Any, policy: Any, annotated: Any
) -> Any:
    """Sample a response of a policy to every prompt; the output is the same however many shards."""
    given = {
        "settings": settings,
        "iteration": iteration,
        "policy": policy,
        "annotated": annotated,
    }
    if plan.shards == 1:
        return plan.placed(generate(**given), "generate", title).outputs["responses"]
    # Strings: kfp hands integers of a list on as floats.
    shards = [f"{index}/{plan.shards}" for index in range(plan.shards)]
    with dsl.ParallelFor(items=shards, name=f"{title}, by shard") as shard:
        part = plan.placed(generate(**given, shard=shard), "generate", f"{title}, a shard")
    merged = merge_responses(shards=dsl.Collected(part.outputs["responses"]), annotated=annotated)
    return plan.placed(merged, "light", f"{title}, merged").outputs["responses"]
