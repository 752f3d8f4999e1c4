"""Where evaluations compute beside the loop: on GPUs of their own, or on the CPU they share.

Training then has fewer GPUs, and what an evaluation takes is no longer added to each iteration.
With n GPUs, of which evaluations get k, an iteration that trains and generates for a time T takes
T n / (n - k) instead of T, so that it is shorter only where the evaluation would add more than
T k / (n - k).
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from tspin.config import RunConfig
from tspin.engines.room import passes_fit, weights_of
from tspin.errors import InputError, TspinError
from tspin.machine.advice import TIGHT
from tspin.machine.hardware import Gpu, available_memory, find_gpus
from tspin.machine.needs import Machine, needs
from tspin.models.shape import model_shape
from tspin.processes.launch import launched

__all__ = ["Apart", "apart", "gpus_of_evaluations"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Apart:
    """What the loop and its evaluations have for themselves: the environment of each."""

    loop: Mapping[str, str] = field(default_factory=dict)
    evaluations: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Let this process, and those it starts, see the loop's GPUs alone inside the block."""
        before = {name: os.environ.get(name) for name in self.loop}
        os.environ.update(self.loop)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def apart(config: RunConfig) -> Apart | None:
    """Where evaluations compute beside the loop, if `system.evaluate_beside` asks for that.

    Raises:
        InputError: it does, and there are no GPUs for both.
    """
    if not config.system.evaluate_beside or config.data.heldout is None:
        return None
    count = torch.cuda.device_count() if config.system.device != "cpu" else 0
    against = _against(count)
    if against is None and count == 0:
        return Apart()
    # Asked in a process of its own: to look at a GPU's memory, CUDA has to begin.
    own = _asked_elsewhere(config) if against is None else 0
    if own == 0:
        reason = against or f"of {count} GPUs here none can be spared"
        raise InputError(f"system.evaluate_beside is true, but {reason}; set it to false")
    names = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    names = names or [str(index) for index in range(count)]
    loop, evaluations = names[: count - own], names[count - own : count]
    return Apart({_VISIBLE: ",".join(loop)}, {_VISIBLE: ",".join(evaluations)})


def _against(gpus: int) -> str | None:
    """Why nothing can be evaluated beside the loop, whatever the memory of so many GPUs."""
    if launched():
        return "torchrun started this process"
    if gpus and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "CUDA has begun in this process, which would keep all GPUs"
    return "there is 1 GPU here" if gpus == 1 else None


def _asked_elsewhere(config: RunConfig) -> int:
    command = [sys.executable, "-m", __name__, config.model_dump_json()]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (no shell, and a module of this package)
    if answer.returncode:
        raise TspinError(f"cannot tell what GPUs there are: {answer.stderr.strip()[-500:]}")
    return int(answer.stdout.split()[-1])


def gpus_of_evaluations(config: RunConfig, gpus: list[Gpu], host: int) -> int:
    """How many GPUs evaluations are to have for themselves; 0 where the loop needs all of them.

    Args:
        config: Of the run.
        gpus: That there are.
        host: Bytes of main memory that are available.

    Raises:
        InputError: there is no such model, or transformers does not know it.
    """
    own = _needed(config, gpus)
    rest, asked = tuple(gpus[: max(len(gpus) - own, 0)]), config.system.num_processes
    if (asked != "auto" and asked > len(rest)) or _engine_size(config) > len(rest):
        return 0
    shape = model_shape(config.model, config.train.lora)
    return own if rest and needs(shape, config, Machine(rest, host)).fit(TIGHT) else 0


def _needed(config: RunConfig, gpus: list[Gpu]) -> int:
    """As many GPUs as a policy needs to answer, and for its forward passes."""
    memory, model = [gpu.total for gpu in gpus], config.model.path
    passes = 1
    if not passes_fit(model, config, memory):
        # Shards of the weights, and about half of the memory for what is computed with them.
        passes = max(2, math.ceil(2 * weights_of(model, config) / min(memory)))
    return max(passes, _engine_size(config))


def _engine_size(config: RunConfig) -> int:
    """The GPUs that the settings of vLLM ask for; 1 where they leave that open."""
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    return math.prod(int(config.generate.engine_args.get(name) or 1) for name in sizes)


if __name__ == "__main__":
    found = RunConfig.model_validate_json(sys.argv[1])
    print(gpus_of_evaluations(found, find_gpus(), available_memory()[0]))  # noqa: T201
