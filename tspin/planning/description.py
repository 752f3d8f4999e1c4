"""A plan in words and numbers: what it assumes, and its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tspin.machine.check import gib
from tspin.planning.lengths import DataLengths
from tspin.planning.plan import PlannedStage, RunPlan, Total
from tspin.planning.speed import Measured, Speed
from tspin.planning.work import Work

__all__ = ["assumptions", "plan_json"]


def assumptions(plan: RunPlan) -> list[str]:
    """What the numbers rest on, and what is not in them, one sentence each."""
    return [
        *_of_lengths(plan),
        *_of_tasks(plan),
        *_of_speed(plan),
        *_of_places(plan),
        *_left_out(plan),
    ]


def _of_lengths(plan: RunPlan) -> Iterator[str]:
    new = plan.config.generate.max_new_tokens
    if plan.config.train.method != "sft" or plan.heldout is not None:
        yield (
            "responses of the policy are taken to be as long as the annotations, cut at "
            f"generate.max_new_tokens ({new:,}); 'at most' has every one of them go so far"
        )
    for name, lengths in (("annotated", plan.annotated), ("heldout", plan.heldout)):
        if lengths is not None and lengths.sampled:
            yield (
                f"of data.{name} {lengths.tokenised:,} records were tokenised, evenly spread, and "
                f"stand for all {lengths.records:,}"
            )


def _of_tasks(plan: RunPlan) -> Iterator[str]:
    if not plan.tasks:
        return
    requests = {task.name: task.requests for task in plan.tasks}
    largest = sorted(requests.items(), key=lambda one: (-one[1], one[0]))[:3]
    named = ", ".join(f"{name} {count:,}" for name, count in largest)
    yield (
        f"each evaluation answers {sum(requests.values()):,} requests of {len(requests)} tasks "
        f"(most: {named}), each with its few-shot examples by itself; generated answers are as "
        "long as the right ones, 'at most' as long as the task allows"
    )


def _of_speed(plan: RunPlan) -> Iterator[str]:
    yield from dict.fromkeys(map(_rates, plan.speeds.values()))


def _rates(speed: Speed) -> str:
    if isinstance(speed, Measured):
        piece, whole = speed.layers
        return (
            f"measured here in {speed.seconds_taken:.0f} s ({speed.device}) with random weights, "
            f"{piece} of {whole} layers: training {speed.training / 1e9:,.1f} GFLOP/s, decoding "
            f"{speed.generation / 1e9:,.2f} GFLOP/s, {speed.width} responses at a time"
        )
    told = speed.described()
    return (
        f"{told['device']}: {told['peak_flops'] / 1e12:,.0f} TFLOP/s at {told['utilisation']:g} "
        f"for training (--utilisation), {told['bandwidth'] / 1e12:,.2f} TB/s at "
        f"{told['bandwidth_utilisation']:g} for decoding with {told['engine']}: stated, not "
        "measured"
    )


def _of_places(plan: RunPlan) -> Iterator[str]:
    crowded = {
        one.device.name: one
        for one in plan.stages
        if one.device is not None and one.memory > one.device.memory
    }
    for name, one in crowded.items():
        if one.device is not None:
            yield (
                f"IT DOES NOT FIT: {one.stage.kind} needs about {gib(one.memory)} on each {name}, "
                f"which has {gib(one.device.memory)}; `tspin doctor` says what makes it smaller"
            )
    places = {one.place for one in plan.stages if one.place is not None}
    if any(place.device is None for place in places) and any(place.device for place in places):
        yield "stages without a GPU are measured on this machine, not on the profile's"
    unpriced = {
        one.stage.kind
        for one in plan.stages
        if one.place is not None and one.place.device is not None and one.place.price is None
    }
    if unpriced and any(place.price is not None for place in places):
        yield f"not in the money, since their pools have no price: {', '.join(sorted(unpriced))}"


def _left_out(plan: RunPlan) -> Iterator[str]:
    config = plan.config
    for name, reason in plan.uncounted.items():
        yield f"the task {name} is not in it: {reason}"
    yield (
        "not in it: starting pods and engines, loading models, waiting in queues, retries, the "
        "nodes of stages without a GPU, the initial model's own files"
    )
    if config.gate.margin is not None:
        yield "the gate may stop the run earlier"


def plan_json(plan: RunPlan) -> dict[str, Any]:
    """All of it; tokens, operations, seconds, bytes."""
    return {
        "model": {
            "path": plan.config.model.path,
            "parameters": plan.sizes.shape.parameters,
            "trained_parameters": plan.sizes.trained_parameters,
            "model_bytes": plan.sizes.model_bytes,
            "packed": plan.sizes.packed,
        },
        "data": {
            "annotated": _lengths(plan.annotated),
            "heldout": None if plan.heldout is None else _lengths(plan.heldout),
        },
        "speed": {name: speed.described() for name, speed in plan.speeds.items()},
        "stages": [_stage(one) for one in plan.stages],
        "total": {
            **_total(plan.work(), plan.total()),
            "disk_bytes": plan.disk,
            "stored_bytes": round(plan.work().written),
            "checkpoint_bytes_sent": plan.sent,
            "peak_memory_bytes": max(one.memory for one in plan.stages),
        },
        "most": _total(plan.work(most=True), plan.total(most=True)),
        "assumptions": assumptions(plan),
    }


def _lengths(data: DataLengths) -> dict[str, Any]:
    number = len(data.lengths)
    return {
        "records": data.records,
        "tokenised": data.tokenised,
        "mean_prompt_tokens": sum(one.prompt for one in data.lengths) / number,
        "mean_annotated_tokens": sum(one.annotated for one in data.lengths) / number,
    }


def _stage(one: PlannedStage) -> dict[str, Any]:
    return {
        "stage": one.stage.kind,
        "iteration": one.stage.iteration,
        "device": None if one.place is None else one.place.device or "cpu",
        "gpus": 0 if one.place is None or one.place.device is None else one.place.gpus,
        **_total(one.stage.expected, one.expected),
        "peak_memory_bytes": one.memory,
        "decoded_at_a_time": one.batch,
        "checkpoints": asdict(one.checkpoints),
        "most": _total(one.stage.most, one.most),
    }


def _total(work: Work, total: Total) -> dict[str, Any]:
    counts = {name: round(value) for name, value in asdict(work).items()}
    counts["written_bytes"] = counts.pop("written")
    return {**counts, "flops": round(work.flops), **asdict(total)}
