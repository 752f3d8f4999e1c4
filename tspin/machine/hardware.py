"""What this machine has: processors, memory, disk, GPUs. Linux's own files, no torch needed."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tspin.config import SystemConfig
from tspin.machine.check import Check, gib

__all__ = [
    "Gpu",
    "available_memory",
    "check_arithmetic",
    "check_disk",
    "check_gpus",
    "check_memory",
    "check_processors",
    "find_gpus",
    "free_disk",
]

_CGROUP = Path("/sys/fs/cgroup")
_LITTLE_MEMORY = 4 * 2**30
_LITTLE_DISK = 5 * 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU that torch can use."""

    name: str
    total: int
    """Bytes."""
    free: int
    """Bytes that no process uses now."""
    bfloat16: bool
    """Whether the hardware computes in bfloat16, rather than emulating it."""


def check_processors() -> Check:
    """How many processors this process may use."""
    usable = _usable_processors()
    present = os.cpu_count() or usable
    of_all = f" of {present}" if usable != present else ""
    return Check("processors", "ok", f"{usable}{of_all} usable, {platform.machine()}")


def check_arithmetic(system: SystemConfig) -> Check:
    """What the bytes of a run that is begun here depend on besides its configuration and data."""
    if find_spec("torch") is None:
        return Check("arithmetic", "warn", "cannot tell: torch is not installed")
    from tspin.models.threads import arithmetic_here

    here = arithmetic_here(system)
    detail = f"{here.threads} threads, {here.device}, torch {here.torch}, {here.blas}"
    return Check("arithmetic", "ok", detail)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> tuple[int, int]:
    """Bytes of main memory: (available now, total), under a container's limit if there is one."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    values = _meminfo()
    available = values.get("MemAvailable", total)
    limit = _number(_CGROUP / "memory.max")
    if limit is not None and limit < total:
        used = _number(_CGROUP / "memory.current") or 0
        available, total = min(available, max(limit - used, 0)), limit
    return available, total


def _meminfo() -> dict[str, int]:
    path = Path("/proc/meminfo")
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[2:] == ["kB"]}


def _number(path: Path) -> int | None:
    """The number in a file of the kernel; None where there is no file or no limit in it."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None


def check_memory() -> Check:
    """How much main memory there is."""
    available, total = available_memory()
    enough = available >= _LITTLE_MEMORY
    return Check(
        "memory", "ok" if enough else "warn", f"{gib(available)} available of {gib(total)}"
    )


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` is or would be made."""
    return shutil.disk_usage(_existing(folder)).free


def _existing(folder: Path) -> Path:
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    return path


def check_disk(folder: Path) -> Check:
    """Free space and the right to write, where `folder` is or would be made."""
    free, place = free_disk(folder), _existing(folder)
    if place.is_file() or not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} cannot be written to; choose another run_dir")
    return Check("disk", "ok" if free >= _LITTLE_DISK else "warn", f"{gib(free)} free at {place}")


def find_gpus() -> list[Gpu]:
    """The GPUs that torch sees; none without torch."""
    if find_spec("torch") is None:
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    gpus = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        gpus.append(Gpu(torch.cuda.get_device_name(index), total, free, bfloat16))
    return gpus


def check_gpus(gpus: list[Gpu]) -> Check:
    """Which GPUs there are."""
    if find_spec("torch") is None:
        return Check("GPUs", "warn", "cannot tell: torch is not installed")
    if not gpus:
        return Check("GPUs", "ok", "none that torch can use; everything runs on the CPU, slowly")
    without = [gpu.name for gpu in gpus if not gpu.bfloat16]
    listed = "; ".join(f"{gpu.name}, {gib(gpu.free)} free of {gib(gpu.total)}" for gpu in gpus)
    if without:
        return Check("GPUs", "warn", f"{listed}; no bfloat16, so float32 is used")
    return Check("GPUs", "ok", f"{listed}; bfloat16")
