"""Where this process computes, and in what precision."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed

from tspin.config import ModelConfig, SystemConfig
from tspin.errors import InputError
from tspin.models.quantization import quantization_parameters

__all__ = [
    "denormals_flushed",
    "dtype_name",
    "freed_memory_kept",
    "node_processes",
    "numerics",
    "resolve_device",
    "resolve_dtype",
    "same_bytes",
    "training_processes",
]


def resolve_device(system: SystemConfig) -> torch.device:
    """The device of this process: its own GPU (by LOCAL_RANK) or the CPU.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if system.device == "cuda" and not has_gpu:
        raise InputError("system.device is 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
    if system.device == "cpu" or not has_gpu:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def training_processes(system: SystemConfig) -> int:
    """Training processes on this machine: `system.num_processes`, of which auto is one a GPU."""
    if system.num_processes != "auto":
        return system.num_processes
    return max(1, torch.cuda.device_count() if system.device != "cpu" else 0)


def node_processes() -> int:
    """Processes of one group that run on this node, as their launcher says (LOCAL_WORLD_SIZE)."""
    if not torch.distributed.is_initialized():
        return 1
    return int(os.environ.get("LOCAL_WORLD_SIZE", torch.distributed.get_world_size()))


def resolve_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The precision to compute in: bfloat16 on a GPU that has it, float32 elsewhere, or as named.

    Weights that are trained stay float32 whatever this is (see `load_policy`); the trainer then
    computes in bfloat16 by autocast.
    """
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def dtype_name(config: ModelConfig, device: torch.device) -> str:
    """`resolve_dtype` by name: 'float32' or 'bfloat16'."""
    return str(resolve_dtype(config, device)).removeprefix("torch.")


def numerics(config: ModelConfig, device: torch.device) -> dict[str, str | None]:
    """What decides the last digits of whatever a policy computes, for manifests.

    Two devices may mean two precisions by `model.dtype` 'auto', so the one that it comes to is
    what counts. An attention implementation of None is the architecture's own. Quantised weights
    are other weights, so they stand here too.
    """
    return {
        "dtype": dtype_name(config, device),
        "attn_implementation": config.attn_implementation,
        **quantization_parameters(config),
    }


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
_THRESHOLDS = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}
_LARGEST_DEFAULT = 32 * 2**20
"""What glibc by itself raises the second of them to, in bytes, and twice that the first."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Do not give back to the system what tensors on a CPU have freed, until the block ends.

    A step asks for the same tensors as the one before. glibc has the system make each that is
    large anew, page by page and zeroed. Another C library is left alone, and so are thresholds that
    the environment sets (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_). Of no effect in a thread
    with an arena of its own, such as all but the first.
    """
    libc = ctypes.CDLL(None)
    known = hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")
    if not known or _THRESHOLDS & os.environ.keys():
        yield
        return
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
    try:
        yield
    finally:
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_DEFAULT)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_DEFAULT)
        libc.malloc_trim(0)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers too small to be normal as 0 while the block computes on a CPU.

    They cost a CPU many times more than others, and saturated triplets make millions of them:
    gradients, and their squares in the optimiser, far below its epsilon.
    """
    # torch tells nobody how this is set, but its arithmetic does.
    before = bool(torch.tensor(torch.finfo(torch.float32).tiny) / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def same_bytes(device: torch.device) -> Iterator[None]:
    """Choose GPU kernels that add in a fixed order: a resumed training must not differ."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
