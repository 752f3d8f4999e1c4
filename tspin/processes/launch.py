"""One process a GPU: started, told of SIGTERM, and asked why it failed."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import orjson
import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tspin.config import SystemConfig
from tspin.errors import InputError, TspinError
from tspin.models.device import resolve_device, training_processes

__all__ = [
    "StoppedError",
    "Termination",
    "check_world",
    "killed_error",
    "launch",
    "launched",
    "processes_wanted",
    "read_error",
]


class StoppedError(TspinError):
    """Work was asked to stop (SIGTERM); what it saved stays. Exit code 143 (128 + 15)."""

    exit_code = 143


class Termination:
    """Notes SIGTERM while training, instead of dying of it."""

    def __init__(self) -> None:
        self.requested = False
        self.stopped_at: int | None = None
        """The optimiser step after which training stopped, if it did."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the signal inside the block; outside, it acts as before."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only.
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


_SHUTDOWN_SECONDS = "120"
"""How long processes may take to write their last checkpoint after SIGTERM."""
_KINDS: tuple[type[TspinError], ...] = (InputError, StoppedError, TspinError)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def processes_wanted(system: SystemConfig) -> int:
    """Training processes that this machine should run.

    Raises:
        InputError: more processes than GPUs are asked for.
    """
    gpus = torch.cuda.device_count() if resolve_device(system).type == "cuda" else 0
    processes = training_processes(system)
    if gpus and processes > gpus:
        raise InputError(
            f"system.num_processes is {processes}, but there are {gpus} GPUs here; "
            "give at most as many, or 'auto'"
        )
    return processes


def launched() -> bool:
    """Whether this process is one of several that a launcher has started (torchrun sets this)."""
    return "WORLD_SIZE" in os.environ


def check_world(system: SystemConfig) -> None:
    """Refuse to train with fewer processes than asked: it would be slower and say nothing.

    Raises:
        TspinError: the launcher started another number of processes on this node.
    """
    processes = processes_wanted(system)
    started = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if started < processes or (system.num_processes != "auto" and started != processes):
        asked = f"system.num_processes '{system.num_processes}' asks for {processes}"
        raise TspinError(
            f"{asked} training processes on this node, but {started} were started; start as many "
            f"(torchrun --nproc-per-node {processes}), or start one without torchrun"
        )


def launch(processes: int, module: str, argument: str, *, kind: str = "training") -> None:
    """Run `python -m module argument` in so many processes that find each other.

    A signal that ends this process ends them too: SIGTERM reaches them, and those of a training
    save a checkpoint.

    Args:
        processes: How many, one a GPU.
        module: `python -m` of what each runs; see `tspin.processes.worker.run_worker`.
        argument: Its one argument.
        kind: 'training' or 'evaluation', for messages.

    Raises:
        TspinError: one of them failed, with its message and of its kind; or all were stopped.
    """
    with (
        TemporaryDirectory(prefix="tspin-launch-") as folder,
        _own_messages_only(),
        _time_to_save(),
    ):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="tspin",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, argument)
        except ChildFailedError as error:
            raise _first_error(Path(folder), error, kind) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            name = signal.Signals(error.sigval).name
            raise StoppedError(f"stopped by {name}; {_again(kind)}") from None


@contextmanager
def _own_messages_only() -> Iterator[None]:
    """Silence the launcher's own reports, and give the signals their handlers back."""
    launcher = logging.getLogger("torch.distributed.elastic")
    level = launcher.level
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    launcher.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        launcher.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _time_to_save() -> Iterator[None]:
    """Let processes write their last checkpoint, where nobody has said how long they may.

    The environment is given back: torch's launcher leaves the signals it handles there, too.
    """
    names = ("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCHELASTIC_SIGNALS_TO_HANDLE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.setdefault(names[0], _SHUTDOWN_SECONDS)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _again(kind: str) -> str:
    # What an evaluation has finished stands beside its metrics.
    where = "the last checkpoint" if kind == "training" else "what is finished"
    return f"run again to continue from {where}"


def _first_error(folder: Path, error: ChildFailedError, kind: str) -> TspinError:
    """What the process that failed first has to say; the others fail because it is gone."""
    killed = {
        rank: failure.exitcode
        for rank, failure in error.failures.items()
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM
    }
    if killed:  # It could say nothing; what others say is that it does not answer.
        rank, code = min(killed.items())
        return killed_error(f"{kind} process {rank}", code, kind)
    # By the file's own time: the launcher's are whole seconds.
    files = sorted(folder.rglob("error.json"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        rank, failure = error.get_first_failure()
        return TspinError(
            f"{kind} process {rank} died (exit code {failure.exitcode}): {failure.message}"
        )
    return read_error(files[0], f"{kind} process {files[0].parent.name}")


def read_error(file: Path, process: str) -> TspinError:
    """What a process left where `tspin.processes.worker.run_worker` leaves an error, of its kind.

    Args:
        file: error.json.
        process: What a message calls the process.
    """
    text: str = orjson.loads(file.read_bytes())["message"]["message"]
    for error_class in _KINDS:
        if text.startswith(f"{error_class.__name__}: "):
            return error_class(text.removeprefix(f"{error_class.__name__}: "))
    return TspinError(f"{process} failed: {text}")


def killed_error(process: str, code: int, kind: str) -> TspinError:
    """Of a process that could say nothing.

    Args:
        process: What a message calls it.
        code: How it ended: the signal's number below 0.
        kind: 'training' or 'evaluation'.
    """
    name = signal.Signals(-code).name
    return TspinError(
        f"{process} was killed ({name}); the kernel does that where memory runs out. "
        f"{_again(kind).capitalize()}"
    )
