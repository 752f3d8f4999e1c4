"""What a training needs of a machine, beside what the machine has."""

from __future__ import annotations

from dataclasses import dataclass

from tspin.config import RunConfig
from tspin.machine.hardware import Gpu
from tspin.machine.host import HostMemory, host_memory
from tspin.machine.memory import Hardware, MemoryEstimate, estimate_memory, sharded
from tspin.models.shape import ModelShape

__all__ = ["Machine", "Needs", "hardware_of", "needs"]


@dataclass(frozen=True)
class Machine:
    """The memory that there is."""

    gpus: tuple[Gpu, ...]
    host: int
    """Bytes of main memory that are available."""


@dataclass(frozen=True)
class Needs:
    """What a training needs, in bytes, beside what is there."""

    hardware: Hardware
    estimate: MemoryEstimate
    """Of one process."""
    device: tuple[int, int]
    """Needed and there: of each GPU, or of the host by all processes on a CPU."""
    host: HostMemory | None
    """Of the host's memory; None on a CPU, where that is all there is."""
    available: int
    """Of the host's memory."""

    def fit(self, share: float = 1.0) -> bool:
        """Whether no memory would be fuller than a share of it."""
        needed, there = self.device
        spare = self.host is None or self.host.total <= share * self.available
        return spare and needed <= share * there


def hardware_of(config: RunConfig, gpus: list[Gpu]) -> Hardware:
    """What training would run on here, unsharded; a usual GPU where one is asked for and none here.

    See `tspin.machine.memory.sharded` for how weights are then shared out.
    """
    gpu = config.system.device == "cuda" or (config.system.device == "auto" and bool(gpus))
    bfloat16 = config.model.dtype == "bfloat16"
    if config.model.dtype == "auto":
        bfloat16 = gpu and all(one.bfloat16 for one in gpus)
    asked = config.system.num_processes
    processes = asked if asked != "auto" else (max(len(gpus), 1) if gpu else 1)
    return Hardware(gpu=gpu, bfloat16=bfloat16, processes=processes)


def needs(shape: ModelShape, config: RunConfig, machine: Machine) -> Needs:
    """Compare what a training would need with what is there.

    Args:
        shape: The model's sizes.
        config: Sections model, train, prompt and system.
        machine: Where it would train.
    """
    hardware = hardware_of(config, list(machine.gpus))
    total = min((gpu.total for gpu in machine.gpus), default=0)
    own = total if hardware.gpu else machine.host // hardware.processes
    hardware = sharded(shape, config, hardware, own)
    estimate = estimate_memory(shape, config, hardware)
    if hardware.gpu:
        free = min((gpu.free for gpu in machine.gpus), default=0)
        host, device = host_memory(shape, config, hardware), (estimate.total, free)
    else:
        host, device = None, (estimate.total * hardware.processes, machine.host)
    return Needs(hardware, estimate, device, host, machine.host)
