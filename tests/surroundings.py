"""The process that tests run in: its variables, its share of the cores, its global state."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable
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
    "KF_PIPELINES_SA_TOKEN_PATH",
    "KUBECONFIG",
    "KUBEFLOW_",
    "KUBERNETES_",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_",
    "MLFLOW_",
    "NO_COLOR",
    "PY_COLORS",
    "RANK",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
    "TSPIN_CACHE",
    "TSPIN_GIT_COMMIT",
    "TSPIN_LOG_FORMAT",
    "TSPIN_RUN_ID",
    "TSPIN_STATUS_DIR",
    "TSPIN_MIRRORS",
    "TSPIN_MIRROR_NAME",
    "WORLD_SIZE",
)
"""Variables, or what they begin with, that say something about the machine and not to the tests."""

_OF_OTHERS = ("HF_HUB_ENABLE_HF_TRANSFER", "HF_XET_HIGH_PERFORMANCE", "PYTEST_CURRENT_TEST")
"""lm_eval sets the first two when it is imported, pytest the last one."""

_VARIABLE = "environment variable "


def _forget_the_machine() -> None:
    for name in list(os.environ):
        if name in _FOREIGN or name.startswith(tuple(n for n in _FOREIGN if n.endswith("_"))):
            del os.environ[name]


def _share_cores() -> None:
    """Give each of several test processes its part of the cores.

    torch takes all of them: two processes on two cores then compute with four threads that wait
    for each other, in several times the time. OMP_NUM_THREADS says how many threads to use
    instead, and TSPIN_TEST_THREADS=all leaves it to torch. Where a test asks for more threads than
    its part, those that wait leave the cores to the other process.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1 and os.environ.get("TSPIN_TEST_THREADS") != "all":
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _look_at_no_source() -> None:
    """Let `inspect.stack` leave out lines of source.

    kfp calls it for each component, and for its lines Python goes through all modules there are:
    with torch and transformers among them a compilation takes ten times as long.
    """
    inspect.stack.__defaults__ = (0,)


_forget_the_machine()
_share_cores()
_look_at_no_source()


def state() -> dict[str, Any]:
    """What code may change for all that runs after it in this process."""
    import torch
    from transformers.utils import logging as transformers_logging

    tiny = torch.finfo(torch.float32).tiny
    return {
        **{f"{_VARIABLE}{name}": v for name, v in os.environ.items() if name not in _OF_OTHERS},
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


def restored(before: dict[str, Any], *allowed: dict[str, Any]) -> list[str]:
    """What differs from before; it is put back.

    Args:
        before: The state before the test.
        allowed: Further states, whose values are no change: as the fixtures of several tests have
            set it up, and as it was before any of them.
    """
    after = state()
    changed = [
        name
        for name in sorted(before.keys() | after.keys())
        if after.get(name) not in [known.get(name) for known in (before, *allowed)]
    ]
    for name in changed:
        _put_back(name, before.get(name))
    return changed


def _put_back(name: str, value: Any) -> None:
    import torch
    from transformers.utils import logging as transformers_logging

    if name.startswith(_VARIABLE):
        os.environ.pop(name.removeprefix(_VARIABLE), None)
        if value is not None:
            os.environ[name.removeprefix(_VARIABLE)] = value
        return
    bars = transformers_logging
    setters: dict[str, Callable[[Any], Any]] = {
        "folder": os.chdir,
        "torch.get_num_threads()": torch.set_num_threads,
        "torch.get_default_dtype()": torch.set_default_dtype,
        "deterministic algorithms": torch.use_deterministic_algorithms,
        "denormal numbers as 0": torch.set_flush_denormal,
        "level of log 'tspin'": logging.getLogger("tspin").setLevel,
        "level of the root log": logging.getLogger().setLevel,
        "transformers' verbosity": transformers_logging.set_verbosity,
        "transformers' bars": lambda on: (
            bars.enable_progress_bar() if on else bars.disable_progress_bar()
        ),
        "SIGTERM": lambda handler: signal.signal(signal.SIGTERM, handler),
    }
    setters[name](value)
