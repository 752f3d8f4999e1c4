"""How much of the host's memory a training on GPUs takes, on the node of the first process.

| part | bytes |
| --- | --- |
| processes | 2 GiB each (Python, torch, CUDA's context): not measured |
| whole | the weights as they are read, and put together again at the end: 4 P, with LoRA s P + 4 A
  (see `tspin.machine.memory`). Each process reads its own; sharded, the first one alone; with nf4
  none does, as each weight goes on to the GPU at once |
| states | with `system.offload` the shards of weights, gradients and optimiser of all processes |

On a CPU the weights that are trained are those that were read, and `tspin.machine.memory` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tspin.config import RunConfig
from tspin.machine.memory import Hardware, estimate_memory
from tspin.models.shape import ModelShape

__all__ = ["HostMemory", "host_memory"]

_PROCESS = 2 * 2**30


@dataclass(frozen=True)
class HostMemory:
    """The parts of what one node needs, in bytes, as the table above names them."""

    processes: int
    whole: int
    states: int

    @property
    def total(self) -> int:
        """All of them: the whole weights are there again when the last step is done."""
        return self.processes + self.whole + self.states


def host_memory(shape: ModelShape, config: RunConfig, hardware: Hardware) -> HostMemory:
    """What all training processes of one node need of its memory together.

    Args:
        shape: The model's sizes.
        config: Sections model, train, prompt and system.
        hardware: GPUs, and how weights are shared out over them.
    """
    alone = replace(hardware, shards=1, offloaded=False)
    readers = hardware.processes if hardware.shards == 1 else 1
    if config.model.quantize != "none":
        readers = 0
    states = 0
    if hardware.offloaded:
        states = estimate_memory(shape, config, replace(hardware, offloaded=False)).stays
    return HostMemory(
        processes=_PROCESS * hardware.processes,
        whole=readers * estimate_memory(shape, config, alone).weights,
        states=states * hardware.processes,
    )
