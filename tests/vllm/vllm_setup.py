"""Configurations and processes of the vLLM tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.ports import free_port
from tspin.config import RunConfig
from tspin.engines.vllm import VllmEngine

NEW_TOKENS = 100
DEADLINE = 1200.0
"""Seconds after which a process that does not get on fails its test; enough on a busy machine."""
# What `vllm serve` runs; that command itself looks for a package of the name vllm.
START = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
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
    processes = parent.children(recursive=True)
    return [process for process in processes if _title(process).startswith("tspin-")]


def _title(process: psutil.Process) -> str:
    """Empty for one that has ended, which it may do at any time."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def alive(process: psutil.Process) -> bool:
    """Whether it runs; an ended one that nobody waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It ended between the two questions.
        return False


@contextmanager
def server(command: list[str]) -> Iterator[str]:
    """vLLM's server for OpenAI's protocol, once it answers; its address."""
    port = free_port()
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + DEADLINE
        while not _answers(f"{address}/health"):
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < deadline, f"no answer after {DEADLINE} s"
            time.sleep(0.2)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=60).ok
    except requests.RequestException:  # Nobody listens yet, or nobody has the time to answer.
        return False
