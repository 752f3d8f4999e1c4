"""What a run keeps on the disk, sends to a store, and has in memory at its peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tspin.config import RunConfig
from tspin.machine.fit import hardware_of
from tspin.machine.hardware import Gpu, available_memory
from tspin.machine.memory import Hardware, estimate_memory, sharded
from tspin.planning.devices import Device
from tspin.planning.sizes import Sizes
from tspin.planning.work import Work
from tspin.store import is_remote

__all__ = ["Checkpointing", "checkpointing", "decoding_memory", "hardware_on", "training_memory"]


@dataclass(frozen=True)
class Checkpointing:
    """The checkpoints of one training."""

    count: int
    """That are written."""
    disk: int
    """Bytes at the peak: two, while one replaces the other."""
    sent: int
    """Bytes that go to a store, if system.checkpoints is one."""


def checkpointing(config: RunConfig, sizes: Sizes, steps: int, seconds: float) -> Checkpointing:
    """What a training's checkpoints take; all are gone when its model is in place.

    Args:
        config: Of the run.
        sizes: Of its model.
        steps: Of the optimiser.
        seconds: That the training takes.
    """
    if not steps:
        return Checkpointing(0, 0, 0)
    system = config.system
    spans = [steps / system.checkpoint_steps]
    if system.checkpoint_minutes is not None:
        spans.append(seconds / (60 * system.checkpoint_minutes))
    count = math.ceil(max(spans))  # transformers saves at the last step as well.
    size = sizes.checkpoint_bytes(config.train.optimizer)
    mirrored = system.checkpoints is not None and is_remote(system.checkpoints)
    return Checkpointing(count, min(count, 2) * size, count * size if mirrored else 0)


def hardware_on(config: RunConfig, device: Device | None, gpus: int) -> Hardware:
    """What the estimate of memory asks of a place.

    Args:
        config: Of the run.
        device: None is a CPU.
        gpus: Of the place.
    """
    if device is None:
        system = config.system.model_copy(update={"device": "cpu"})
        return hardware_of(config.model_copy(update={"system": system}), [])
    one = Gpu(device.name, device.memory, device.memory, device.bfloat16)
    return hardware_of(config, [one] * gpus)


def training_memory(
    config: RunConfig, sizes: Sizes, hardware: Hardware, device: Device | None
) -> int:
    """Bytes at the peak of one training process, its weights sharded as it would shard them.

    Args:
        config: Of the run.
        sizes: Of its model.
        hardware: Where it trains.
        device: Whose memory decides whether it shards by itself; None is this machine's CPU.
    """
    memory = available_memory()[0] // hardware.processes if device is None else device.memory
    hardware = sharded(sizes.shape, config, hardware, memory)
    return estimate_memory(sizes.shape, config, hardware).total


def decoding_memory(sizes: Sizes, hardware: Hardware, work: Work, batch: int) -> int:
    """Bytes of the weights and of the cache of a batch of responses that have come to their end.

    Args:
        sizes: Of the model.
        hardware: Where it decodes.
        work: Of the stage.
        batch: Responses at a time.
    """
    weights = sizes.shape.parameters
    if not work.responses:
        return 0
    tokens = (work.prompt_tokens + work.generated_tokens) / work.responses
    return int(hardware.number_bytes * (weights + batch * sizes.cached * tokens))
