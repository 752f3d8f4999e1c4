"""The group that processes of one training or one evaluation form, and what they agree on."""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed
from torch.distributed import ProcessGroup

from tspin.errors import InputError

__all__ = [
    "any_process",
    "errors_only",
    "join_group",
    "least",
    "leave_group_at_exit",
    "patient_group",
    "refuse_other_disks",
    "wait_for_all",
]

_PATIENCE = timedelta(days=1)
"""How long processes wait for one that reads or writes a model. A process that has died ends the
others much sooner: their launcher sees it."""
_EXCHANGE = timedelta(minutes=30)
"""How long processes wait for each other in an exchange of numbers."""
_patient: list[tuple[ProcessGroup | None, ProcessGroup]] = []
"""The group of all processes that it was made for, and the patient one."""


def join_group(device: torch.device) -> None:
    """Form the group of the processes that a launcher has started; nothing where there is one.

    Args:
        device: Where this process computes.
    """
    if torch.distributed.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"  # As transformers does for a training.
    torch.distributed.init_process_group(backend, timeout=_EXCHANGE)
    leave_group_at_exit()


@contextmanager
def errors_only() -> Iterator[None]:
    """In a process that is not the first: that one says everything for all of them."""
    ours = logging.getLogger("tspin")
    level = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(level)


def any_process(device: torch.device, *flags: bool) -> tuple[bool, ...]:
    """Which of some flags any process has raised, so that all do the same after the same step."""
    if not torch.distributed.is_initialized():
        return flags
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(raised, op=torch.distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in raised.tolist())


def least(value: int) -> int:
    """The smallest of what all processes say, the same on all of them."""
    group = patient_group()
    if group is None:
        return value
    said = torch.tensor(value, dtype=torch.int64)
    torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MIN, group=group)
    return int(said)


def wait_for_all() -> None:
    """Return once every process has come here, however long one of them reads or writes.

    The group of the training itself gives up after half an hour, which is right for an exchange of
    gradients and too short for tens of gigabytes on a slow disk.
    """
    group = patient_group()
    if group is not None:
        torch.distributed.barrier(group=group)


def patient_group() -> ProcessGroup | None:
    """All processes, over the host's network and with patience; None where there is but one.

    All processes have to ask for it for the first time at the same point.
    """
    if not torch.distributed.is_initialized():
        return None
    world = torch.distributed.group.WORLD
    if not _patient or _patient[0][0] is not world:
        patient = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        _patient[:] = [(world, patient)]
    return _patient[0][1]


def refuse_other_disks(folder: Path) -> None:
    """Refuse to begin where not all processes see one folder: none could continue from it.

    Args:
        folder: Made by the first process.

    Raises:
        InputError: processes on other machines see another folder of that name.
    """
    group = patient_group()
    if group is None:
        return
    first = torch.distributed.get_rank() == 0
    # A name that nobody has asked a network disk for, so that no answer to it can be an old one.
    names = [f".seen-by-all-{uuid4().hex}"]
    torch.distributed.broadcast_object_list(names, group=group)
    mark = folder / names[0]
    if first:
        mark.touch()
    torch.distributed.barrier(group=group)
    seen = least(int(mark.exists()))
    if first:
        mark.unlink()
    if not seen:
        raise InputError(
            f"{folder}: not all training processes see the same folder; give system.checkpoints a "
            "folder on a disk that all nodes share"
        )


def leave_group_at_exit() -> None:
    """Leave the group of processes before Python takes itself down, and after all that uses it.

    A DDP wrapper that outlives its group destroys it with Python's lock held, and can wait for ever
    for a thread of gloo's that wants the same lock.
    """
    if torch.distributed.is_initialized():
        atexit.register(_leave_group)


def _leave_group() -> None:
    gc.collect()
    _patient.clear()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
