"""Configurations and processes of the vLLM tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tspin.config import RunConfig
from tspin.engines.vllm import VllmEngine

NEW_TOKENS = 100
QUICK = {"enforce_eager": True, "distributed_executor_backend": "uni", "max_num_seqs": 16}
"""Starts sooner: nothing is compiled, and the engine's process computes itself."""


@dataclass
class Served:
    """The two policies that the session's engine answers for."""

    base: VllmEngine
    adapted: VllmEngine


def make_config(model: Path, **sections: Any) -> RunConfig:
    """A run of the vLLM engine on a CPU; sections are merged into the usual ones."""
    values: dict[str, Any] = {
        "run_dir": "unused",
        "seed": 3,
        "model": {"path": str(model)},
        "data": {"annotated": "unused"},
        "prompt": {"max_length": 200},
        "generate": {"engine": "vllm", "max_new_tokens": NEW_TOKENS, "engine_args": QUICK},
        "system": {"device": "cpu"},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return RunConfig.model_validate(values)


def engine_processes(parent: psutil.Process) -> list[psutil.Process]:
    """vLLM's processes below another, whose titles carry the mark of their lifeline."""
    return [
        process
        for process in parent.children(recursive=True)
        if alive(process) and " ".join(process.cmdline()).startswith("tspin-")
    ]


def alive(process: psutil.Process) -> bool:
    """Whether it runs; an ended one that nobody waited for does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
