"""Which settings make a training fit, the cheapest first, tried out on the estimates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from tspin.config import LoraConfig, RunConfig
from tspin.machine.check import gib
from tspin.machine.memory import largest_triplet
from tspin.machine.needs import Machine, hardware_of, needs
from tspin.models.shape import ModelShape, model_shape

__all__ = ["TIGHT", "advice"]

TIGHT = 0.8
"""Share of the memory past which an estimate is too close to call."""

_CHUNK = 256
_STEP = 1024
"""Tokens between two budgets that are tried."""


@dataclass(frozen=True)
class _Change:
    """Settings that differ from the run's, as `--set` takes them."""

    config: RunConfig
    shape: ModelShape
    settings: tuple[str, ...] = ()

    def with_system(self, name: str, value: Any) -> _Change:
        system = self.config.system.model_copy(update={name: value})
        word = value if not isinstance(value, bool) else str(value).lower()
        return _Change(
            self.config.model_copy(update={"system": system}),
            self.shape,
            (*self.settings, f"system.{name}={word}"),
        )

    def with_adapter(self) -> _Change:
        lora = LoraConfig()
        train = self.config.train.model_copy(update={"lora": lora})
        return _Change(
            self.config.model_copy(update={"train": train}),
            model_shape(self.config.model, lora),
            (*self.settings, f"train.lora.r={lora.r}"),
        )

    def with_four_bits(self) -> _Change:
        model = self.config.model.model_copy(update={"quantize": "nf4"})
        return _Change(
            self.config.model_copy(update={"model": model}),
            self.shape,
            (*self.settings, "model.quantize=nf4"),
        )


def advice(shape: ModelShape, config: RunConfig, machine: Machine) -> str:
    """What to set so that a training fits a machine that it does not fit well.

    Changes are tried in the order of what they cost: those after which the same is computed
    (smaller passes, sharding, checkpointed activations, offloading), then they and a LoRA adapter,
    then they and one on weights in four bits. Of each of the three the first is named that fits
    with room to spare, or else the first that fits at all.

    Args:
        shape: The model's sizes.
        config: As it stands.
        machine: Where it would train.
    """
    start = _Change(config, shape)
    for kind, share in product(_kinds(start, machine), (TIGHT, 1.0)):
        for candidate in _changes(kind, machine):
            change = _with_fitting_passes(candidate, machine, share)
            if change is None or not change.settings:
                continue
            needed, _ = needs(change.shape, change.config, machine).device
            listed = " ".join(f"--set {setting}" for setting in change.settings)
            tightly = "" if share < 1 else ", tightly,"
            return f"it fits{tightly} with {listed} (about {gib(needed)})"
    return (
        "nothing that can be set here makes it fit: shorten prompt.max_length, or take more or "
        "larger GPUs or a smaller model"
    )


def _changes(kind: _Change, machine: Machine) -> Iterator[_Change]:
    """That leave what is computed as it is, in the order of their cost."""
    costs = [
        (cost, change)
        for spread_cost, spread in _spreads(kind, machine)
        for cost, change in _checkpointed(spread_cost, spread)
    ]
    changes = [change for _, change in sorted(costs, key=lambda pair: pair[0])]
    yield from changes
    for change in changes:
        if change.config.system.logps_chunk_size > _CHUNK:
            yield change.with_system("logps_chunk_size", _CHUNK)


def _kinds(start: _Change, machine: Machine) -> Iterator[_Change]:
    yield start
    adapted = start
    if not start.shape.adapter_parameters:
        adapted = start.with_adapter()
        yield adapted
    gpu = hardware_of(start.config, list(machine.gpus)).gpu
    # An adapter that is trained on without `train.lora` is not quantised.
    if gpu and start.config.model.quantize == "none" and adapted.config.train.lora is not None:
        yield adapted.with_four_bits()


# What the following cost, as an order: sharding sends weights about, mostly behind the work;
# checkpointing takes a third more time; offloading waits for the host's memory in every pass.
_SHARDED, _CHECKPOINTED, _OFFLOADED = 1, 2, 4


def _spreads(change: _Change, machine: Machine) -> Iterator[tuple[int, _Change]]:
    """As it is, sharded, and sharded with the shards in the host's memory."""
    yield 0, change
    hardware = needs(change.shape, change.config, machine).hardware
    shardable = change.shape.layer > 0 and change.config.model.quantize == "none"
    if hardware.world == 1 or not shardable:
        return
    # Under auto, smaller passes may end the sharding that they do not fit without.
    if change.config.system.shard != "on":
        change = change.with_system("shard", "on")
        yield _SHARDED, change
    if hardware.gpu and not hardware.offloaded:
        yield _OFFLOADED, change.with_system("offload", True)


def _checkpointed(cost: int, change: _Change) -> Iterator[tuple[int, _Change]]:
    yield cost, change
    if not change.config.system.gradient_checkpointing:
        yield cost + _CHECKPOINTED, change.with_system("gradient_checkpointing", True)


def _with_fitting_passes(change: _Change, machine: Machine, share: float) -> _Change | None:
    """With the tokens a pass as they are, or the most below them that fit; None if none do."""

    def fits(one: _Change) -> bool:
        return needs(one.shape, one.config, machine).fit(share)

    def with_tokens(tokens: int) -> _Change:
        return change.with_system("tokens_per_device", tokens)

    if fits(change):
        return change
    budget, least = change.config.system.tokens_per_device, largest_triplet(change.config)
    budgets = range(-(-least // _STEP) * _STEP, budget, _STEP)
    # More tokens never take less memory.
    fitting = bisect_left(budgets, True, key=lambda tokens: not fits(with_tokens(tokens)))
    if fitting:
        return with_tokens(budgets[fitting - 1])
    smallest = with_tokens(least)
    return smallest if least < budget and fits(smallest) else None
