"""With how many threads a step computes, so that its bytes do not depend on where it does.

Floating-point addition is not associative, so a sum depends on the number of threads that share
it. In ATen (torch 2.13) the gradient of a LayerNorm's weight is one partial sum a thread
(LayerNormBackwardKernelImplInternal in native/cpu/layer_norm_kernel.cpp), and so is the sum of a
large tensor (two_pass_reduction in native/TensorIteratorReduce.cpp). The same work ends with the
same bytes only where each of its parts computes with the same number of threads.

The rule: a step computes with the first of these that is known.

1. `system.threads`, where it is a number. A compiled pipeline always has one
   (`tspin_pipelines.plan`).
2. What the run was begun with: `arithmetic.json` in the folder of `tspin run`.
3. What the same work was begun with before it was killed: a file beside the output, or among the
   checkpoints, which is gone when the output is in place.
4. What the inputs were computed with, by their manifests: the policy, then responses or triplets.
5. What torch takes by itself: OMP_NUM_THREADS, or this machine's cores, shared out over the
   processes of a training.

A run is begun by the same rule, of which the initial policy's manifest is the fourth part. More
threads than cores give the same bytes, only later. Device, torch and BLAS cannot be chosen in this
way: where they, or a number of threads or processes that was asked for, differ from 2, 3 or
(outside of a run) 4, one line of the log and `bytes_may_differ` in the manifest say so, and the
work goes on. None of this makes an output stale. Engines with processes of their own (vLLM)
schedule their threads themselves.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from tspin.config import RunConfig, SystemConfig
from tspin.errors import InputError
from tspin.models.device import training_processes
from tspin.records.arithmetic import (
    Arithmetic,
    differences,
    read_arithmetic,
    write_arithmetic,
)
from tspin.records.manifest import Manifest, computed_with

__all__ = ["Work", "arithmetic_here", "begin_run", "threads_held"]

log = logging.getLogger(__name__)

_RUN = "the beginning of the run"
_GRAIN = 32768
"""Elements below which ATen gives no further thread a part (at::internal::GRAIN_SIZE)."""


@dataclass(frozen=True)
class Work:
    """One output on its way, which may be killed and continued, here or elsewhere."""

    system: SystemConfig
    manifest: Manifest
    """Of the output, before its results are known."""
    begun: Path
    """Where it is written down what the work was begun with."""
    run: Arithmetic | None
    """What the run was begun with; None outside of a run."""
    inputs: Mapping[str, str | Path]
    """What the output is computed from, by name; what has no manifest says nothing."""
    processes: int | None = None
    """That share the work, if it can be shared."""

    def begin(self) -> Arithmetic:
        """How this process computes; written down, unless the work was begun before."""
        before = self._before()
        known = [self.run, before, *self._input_records().values()]
        here = arithmetic_here(self.system, _threads(self.system, known), self.processes)
        if before is None:
            write_arithmetic(self.begun, here, self.manifest.key)
        return here

    @contextmanager
    def computing(self) -> Iterator[Manifest]:
        """Compute by the rule inside the block, and give the threads back after it.

        Yields the manifest with how it was computed. What was begun is forgotten when the block
        ends well, and when it refuses the inputs.
        """
        before = self._before()
        folders = [folder for folder in self.begun.parents if not folder.exists()]
        here = self.begin()
        own = {"its own beginning": before}
        if self.run is None:
            own |= self._input_records()
        if told := differences(here, own):
            _warn(told)
        note = differences(here, {_RUN: self.run, **own})
        signed = {"arithmetic": here, "bytes_may_differ": note}
        try:
            with threads_held(here.threads):
                yield self.manifest.model_copy(update=signed)
        except InputError:
            if before is None:
                _remove(self.begun, folders)
            raise
        if self.processes is None:  # Else it goes with the checkpoints, once all have read it.
            self.begun.unlink(missing_ok=True)

    def _before(self) -> Arithmetic | None:
        return read_arithmetic(self.begun, self.manifest.key)

    def _input_records(self) -> dict[str, Arithmetic | None]:
        return {name: computed_with(Path(path)) for name, path in self.inputs.items()}


def _remove(path: Path, folders: Iterable[Path]) -> None:
    """A file, and what folders were made for it, the inmost first; one with other files stays."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def begin_run(config: RunConfig, path: Path) -> Arithmetic:
    """What a run was begun with: written down the first time, read and compared each further time.

    Args:
        config: Of the run.
        path: arithmetic.json in its folder.
    """
    begun = read_arithmetic(path)
    known = [begun, computed_with(Path(config.model.path))]
    threads = _threads(config.system, known)
    here = arithmetic_here(config.system, threads, training_processes(config.system))
    if begun is None:
        write_arithmetic(path, here)
        return here
    if told := differences(here, {_RUN: begun}):
        _warn(told)
    return begun


def arithmetic_here(
    system: SystemConfig, threads: int | None = None, processes: int | None = None
) -> Arithmetic:
    """How work is computed on this machine.

    Args:
        system: Names the device, and the threads of a step that continues nothing.
        threads: Of each process; None takes those.
        processes: That share the work; None where it cannot be shared.
    """
    return Arithmetic(
        threads=_threads(system, ()) if threads is None else threads,
        device=_device(system),
        torch=str(torch.__version__),
        blas=_blas(),
        processes=processes,
    )


@contextmanager
def threads_held(number: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    _start_pool(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_pool(number: int) -> None:
    """Let the threads begin here, if they have not yet.

    OpenMP starts them at the first operation that is large enough, and each inherits whether the
    thread that starts it flushes denormals. A training that flushes them (see
    `tspin.models.device.denormals_flushed`) would otherwise compute other bytes where it is the
    first work of its process than where other work went before.
    """
    if number > 1:
        torch.empty(number * _GRAIN).fill_(0.0)


def _threads(system: SystemConfig, known: Iterable[Arithmetic | None]) -> int:
    if system.threads != "auto":
        return system.threads
    recorded = next((record.threads for record in known if record is not None), None)
    return _own_threads(system) if recorded is None else recorded


def _own_threads(system: SystemConfig) -> int:
    """What torch takes by itself, shared out over processes unless somebody named a number."""
    number = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return number
    processes = max(training_processes(system), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(1, number // processes)


def _device(system: SystemConfig) -> str:
    if system.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name(int(os.environ.get("LOCAL_RANK", "0")))
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}"


def _blas() -> str:
    """The library of matrix products, such as 'mkl 2024.2'."""
    built = torch.__config__.show()
    name = re.search(r"BLAS_INFO=(\w+)", built)
    version = re.search(r"Math Kernel Library Version ([\d.]+)", built)
    parts = [match[1] for match in (name, version) if match is not None]
    return " ".join(parts) or "unknown"


def _warn(told: str) -> None:
    log.warning("%s; bytes may differ from those of one machine in one go", told)
