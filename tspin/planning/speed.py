"""How fast work goes: by a device's peaks and a stated utilisation, or as measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tspin.config import RunConfig
from tspin.planning.devices import BANDWIDTH, Device
from tspin.planning.sizes import Sizes
from tspin.planning.work import Work

__all__ = ["Measured", "Speed", "Stated"]

_SEQUENCES = 256
"""vLLM's own max_num_seqs."""
_CACHE = 0.9
"""Share of a GPU's memory that vLLM takes, weights included."""


class Speed(Protocol):
    """From work to time."""

    def seconds(self, work: Work, gpus: int) -> float:
        """Of a stage.

        Args:
            work: What it computes.
            gpus: That its place has; of a CPU 1.
        """

    def batch(self, work: Work, gpus: int) -> int:
        """Responses that one device decodes at a time.

        Args:
            work: Of the stage.
            gpus: That its place has.
        """

    def described(self) -> dict[str, Any]:
        """What the times rest on."""


@dataclass(frozen=True)
class Stated:
    """By the roofline of a GPU.

    Training and scoring take operations / (peak * utilisation). Decoding takes, for each token of
    a batch, the longer of reading the weights once and the cache of every row (bandwidth *
    `BANDWIDTH`), and of the operations (peak * utilisation).
    """

    config: RunConfig
    sizes: Sizes
    device: Device
    utilisation: float
    vllm: bool
    """Whether vLLM generates, on all GPUs of a place; the engine transformers uses one."""

    def seconds(self, work: Work, gpus: int) -> float:
        """Of a stage; what only one GPU computes, the others wait for."""
        rate = self.device.flops * self.utilisation
        used = gpus if self.vllm else 1
        passes = work.training_flops / (rate * gpus) + work.scoring_flops / rate
        return passes + self._generation(work, used, rate)

    def batch(self, work: Work, gpus: int) -> int:
        """As many rows as the engine takes, as there are, and as the memory has room for."""
        if not work.responses:
            return 0
        arguments = self.config.generate.engine_args
        asked = int(arguments.get("max_num_seqs", _SEQUENCES)) if self.vllm else 0
        width = asked or self.config.system.generate_batch_size
        share = -(-int(work.responses) // (gpus if self.vllm else 1))
        row = self._row(work)
        room = int((_CACHE * self.device.memory - self._weights) / row) if row else width
        return max(1, min(width, share, room))

    def described(self) -> dict[str, Any]:
        """The device, and both shares."""
        return {
            "device": self.device.name,
            "peak_flops": self.device.flops,
            "bandwidth": self.device.bandwidth,
            "utilisation": self.utilisation,
            "bandwidth_utilisation": BANDWIDTH,
            "engine": "vllm" if self.vllm else "transformers",
        }

    def _generation(self, work: Work, used: int, rate: float) -> float:
        if not work.generation_flops:
            return 0.0
        emitted = work.generated_tokens + work.responses
        reading = self.sizes.flops.of_lengths(
            round(work.prompt_tokens / work.responses), [], backward=False
        )
        reading *= work.responses / rate
        batch = self.batch(work, used)
        bytes_a_step = self._weights + batch * self._row(work)
        decoding = max(work.generation_flops / rate - reading, 0.0)
        moving = emitted / batch * bytes_a_step / (self.device.bandwidth * BANDWIDTH)
        return (reading + max(moving, decoding)) / used

    @property
    def _weights(self) -> int:
        return self._number * self.sizes.shape.parameters

    @property
    def _number(self) -> int:
        return 4 if self.config.model.dtype == "float32" else 2

    def _row(self, work: Work) -> float:
        """Bytes of one row's cache, half of its response written."""
        tokens = (work.prompt_tokens + work.generated_tokens / 2) / work.responses
        return self._number * self.sizes.cached * tokens


@dataclass(frozen=True)
class Measured:
    """By rates measured here: operations a second of a process, as steps really ran."""

    device: str
    training: float
    """Operations a second in training; scoring is taken to be as fast."""
    generation: float
    """Operations a second in decoding."""
    fixed: float
    """Seconds that a training takes besides its steps."""
    width: int
    """Responses decoded at a time."""
    seconds_taken: float
    """That measuring took."""
    layers: tuple[int, int]
    """Of the piece that was measured, and of the model."""

    def seconds(self, work: Work, gpus: int) -> float:
        """Of a stage; processes that train together are taken to share the work evenly."""
        passes = work.training_flops / gpus + work.scoring_flops
        start = self.fixed if work.steps else 0.0
        return start + passes / self.training + work.generation_flops / self.generation

    def batch(self, work: Work, gpus: int) -> int:
        """As it was measured."""
        return min(self.width, int(work.responses))

    def described(self) -> dict[str, Any]:
        """The rates."""
        return {
            "device": self.device,
            "measured_training_flops": self.training,
            "measured_generation_flops": self.generation,
            "training_start_seconds": self.fixed,
            "measuring_seconds": self.seconds_taken,
            "measured_layers": self.layers[0],
            "layers": self.layers[1],
        }
