"""What known GPUs can do: operations a second, bytes a second, bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tspin.errors import InputError

__all__ = ["BANDWIDTH", "UTILISATION", "Device", "find_device"]

UTILISATION = 0.4
"""Share of the peak that large models reach in training: PaLM 540B 0.46, MT-NLG 0.30, Gopher 0.33
(arXiv 2204.02311, table 3)."""
BANDWIDTH = 0.5
"""Share of the memory's peak bandwidth that decoding reaches; stated, not measured."""

_TERA, _GIGA, _GIB = 1e12, 1e9, 2**30


@dataclass(frozen=True)
class Device:
    """Peaks of one GPU, by its maker's data sheet."""

    name: str
    flops: float
    """Dense matrix products a second in bfloat16 (float16 where there is none), as operations;
    sheets that count with sparsity give twice this."""
    bandwidth: float
    """Bytes a second from its memory."""
    memory: int
    """Bytes."""
    bfloat16: bool = True
    """Whether it computes in bfloat16."""


def _device(
    name: str, tera: float, giga: float, gib: int, *, bfloat16: bool = True
) -> tuple[frozenset[str], Device]:
    words = frozenset(name.lower().split())
    return words, Device(name, tera * _TERA, giga * _GIGA, gib * _GIB, bfloat16)


_DEVICES = (
    # A name is one's whose words all stand in it: the narrower ones come first.
    _device("H100 PCIe", 756, 2_000, 80),
    _device("H100 NVL", 835, 3_900, 94),
    _device("H100", 989, 3_350, 80),
    _device("H200", 989, 4_800, 141),
    _device("B200", 2_250, 8_000, 180),
    _device("A100 40GB", 312, 1_555, 40),
    _device("Tesla A100", 312, 1_555, 40),  # GKE's name of the smaller one.
    _device("A100", 312, 2_039, 80),
    _device("L40S", 362, 864, 48),
    _device("L4", 121, 300, 24),
    _device("A10G", 70, 600, 24),
    _device("A10", 125, 600, 24),
    _device("V100", 125, 900, 16, bfloat16=False),
    _device("T4", 65, 320, 16, bfloat16=False),
    _device("RTX 4090", 165, 1_008, 24),
    _device("RTX 3090", 71, 936, 24),
    _device("MI300X", 1_307, 5_300, 192),
)
"""NVIDIA's and AMD's data sheets."""


def find_device(name: str) -> Device:
    """A known GPU by name, or one by its numbers.

    Args:
        name: As a user writes it (`h100`), as a pool names it (`nvidia-h100-80gb`), as torch does
            (`NVIDIA H100 80GB HBM3`); or `FLOPS,BANDWIDTH,MEMORY` in operations a second, bytes a
            second, and bytes: `989e12,3.35e12,80e9`.

    Raises:
        InputError: it is none of these.
    """
    words = set(re.split(r"[^a-z0-9.+]+", name.lower()))
    for needed, device in _DEVICES:
        if needed <= words:
            return device
    try:
        flops, bandwidth, memory = map(float, name.split(","))
    except ValueError:
        flops = bandwidth = memory = 0.0
    if min(flops, bandwidth, memory) > 0:
        return Device(name, flops, bandwidth, int(memory))
    known = ", ".join(dict.fromkeys(device.name for _, device in _DEVICES))
    raise InputError(
        f"unknown GPU {name!r}; known are {known}; or give its numbers as FLOPS,BANDWIDTH,MEMORY, "
        "such as 989e12,3.35e12,80e9"
    )
