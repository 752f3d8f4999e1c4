"""The process that tests run in: its variables, its share of the cores, its global state."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

__all__ = ["ON_CI", "restored", "state"]

ON_CI = "CI" in os.environ

_FOREIGN = ("AWS_", "DVC_", "GITHUB_", "KFP_", "PET_", "RETRAIN_", "TORCHELASTIC_", "TRANSFORMERS_")
_FOREIGN += (
    "CI",
    "COLUMNS",
    "FORCE_COLOR",
    "GROUP_RANK",
    "HF_DATASETS_OFFLINE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_",
    "NO_COLOR",
    "PY_COLORS",
    "RANK",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
    "TSPIN_CACHE",
    "TSPIN_GIT_COMMIT",
    "WORLD_SIZE",
)
"""Variables, or what they begin with, that say something about the machine and not to the tests."""

_OF_OTHERS = ("HF_HUB_ENABLE_HF_TRANSFER", "HF_XET_HIGH_PERFORMANCE", "PYTEST_CURRENT_TEST")
"""lm_eval sets the first two when it is imported, pytest the last one."""


def _forget_the_machine() -> None:
    for name in list(os.environ):
        if name in _FOREIGN or name.startswith(tuple(n for n in _FOREIGN if n.endswith("_"))):
            del os.environ[name]


def _share_cores() -> None:
    """Give each of several test processes its part of the cores.

    torch takes all of them: two processes on two cores then compute with four threads that wait
    for each other, in several times the time. OMP_NUM_THREADS says how many threads to use
    instead, and TSPIN_TEST_THREADS=all leaves it to torch.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1 and os.environ.get("TSPIN_TEST_THREADS") != "all":
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))


_forget_the_machine()
_share_cores()


def state() -> dict[str, Any]:
    """What code may change for all that runs after it in this process."""
    import torch
    from transformers.utils import logging as transformers_logging

    variables = {name: value for name, value in os.environ.items() if name not in _OF_OTHERS}
    tiny = torch.finfo(torch.float32).tiny
    return {
        "environment variables": variables,
        "folder": Path.cwd(),
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "denormal numbers as 0": bool(torch.tensor(tiny) / 2 == 0),
        "level of log 'tspin'": logging.getLogger("tspin").level,
        "level of the root log": logging.getLogger().level,
        "transformers' verbosity": transformers_logging.get_verbosity(),
        "transformers' bars": transformers_logging.is_progress_bar_enabled(),
        "SIGTERM": signal.getsignal(signal.SIGTERM),
    }


def restored(before: dict[str, Any]) -> list[str]:
    """What differs from before; it is put back."""
    import torch
    from transformers.utils import logging as transformers_logging

    after = state()
    changed = [name for name, value in before.items() if value != after[name]]
    if changed:
        variables = before["environment variables"]
        for name in after["environment variables"].keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
        os.chdir(before["folder"])
        torch.set_num_threads(before["torch.get_num_threads()"])
        torch.set_default_dtype(before["torch.get_default_dtype()"])
        torch.use_deterministic_algorithms(before["deterministic algorithms"])
        torch.set_flush_denormal(before["denormal numbers as 0"])
        logging.getLogger("tspin").setLevel(before["level of log 'tspin'"])
        logging.getLogger().setLevel(before["level of the root log"])
        transformers_logging.set_verbosity(before["transformers' verbosity"])
        bars = before["transformers' bars"]
        (
            transformers_logging.enable_progress_bar
            if bars
            else transformers_logging.disable_progress_bar
        )()
        signal.signal(signal.SIGTERM, before["SIGTERM"])
    return changed
