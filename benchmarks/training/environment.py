"""Where and when a benchmark was run."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["environment", "processor"]

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "trl")


def environment(device: str) -> dict[str, str | int]:
    """Date, command, processor or GPU, threads and versions."""
    command = ["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(command),
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        **{package: version(package) for package in _PACKAGES},
    }


def processor() -> str:
    """The first processor's name, with family, model and stepping."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    family = "/".join(names.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{names.get('model name', 'CPU')} ({family})"
