"""The state of a training as safetensors and JSON, in one format for any number of processes.

Every process writes what it holds, and of what all hold alike a share. A tensor's file says which
part of the whole it is, so the state is read by as many processes as there are then, sharded or
not: what torch calls a distributed checkpoint, in the layout of Hugging Face. torch's own layout
has a file `.metadata` that is unpickled, and a checkpoint can come from a store that others write.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tspin.files import read_object, write_json
from tspin.models.sharding import tied_names
from tspin.processes.group import patient_group

__all__ = [
    "WHOLE",
    "load_random_state",
    "load_state",
    "own_files",
    "save_random_state",
    "save_state",
]

_TRAINED_ONLY = StateDictOptions(ignore_frozen_params=True)
_SCHEDULE = "schedule.json"
WHOLE = "complete.json"
"""The mark of a checkpoint to which every process has written its part."""
_FILE_BYTES = 4 * 2**30
"""Of a file, about: each is put together in the host's memory before it is written."""
_PART = re.compile(r"shard-(\d+)-model-\d+-of-\d+\.safetensors")
_RANDOM = re.compile(r"random-(\d+)\.safetensors")


def save_state(
    folder: Path, policy: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> None:
    """Write trained weights, the optimiser's state and the learning rate; every process calls it.

    Args:
        folder: Of the checkpoint, the same for all processes.
        policy: Sharded or not; without the wrapper of DDP.
        optimizer: Of the policy's trained weights.
        schedule: Of the learning rate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(policy, optimizer)
    group = patient_group()
    writer = HuggingFaceStorageWriter(
        str(folder), save_distributed=True, fqn_to_index_mapping=_files(tensors)
    )
    with _without_advice():
        save(tensors, storage_writer=writer, process_group=group, no_dist=group is None)
    if group is None or torch.distributed.get_rank() == 0:
        rates = [values["lr"] for values in optimizer.param_groups]
        write_json(folder / _SCHEDULE, {"learning_rates": rates, "schedule": schedule.state_dict()})


def load_state(
    folder: Path, policy: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> None:
    """Take over what `save_state` wrote, with the same number of processes or another.

    Args:
        folder: Of the checkpoint.
        policy: Gets its trained weights.
        optimizer: Of a training that has not begun.
        schedule: Of a training that has not begun.
    """
    tensors = _tensors(policy, optimizer)
    group = patient_group()
    reader = HuggingFaceStorageReader(str(folder))
    # In place: these are the memory of the weights and of the optimiser's state.
    with _without_advice():
        load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
    values = read_object(folder / _SCHEDULE)
    schedule.load_state_dict(values["schedule"])
    for settings, rate in zip(optimizer.param_groups, values["learning_rates"], strict=True):
        settings["lr"] = rate


def save_random_state(folder: Path, rank: int) -> None:
    """Write the state of this process's random number generators."""
    folder.mkdir(parents=True, exist_ok=True)
    _, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    tensors = {
        "cpu": torch.random.get_rng_state(),
        "numpy.keys": torch.from_numpy(np.array(keys, dtype=np.int64)),
        "numpy.rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
        "python.state": torch.tensor([version, *internal], dtype=torch.int64),
        "python.gauss": torch.tensor(
            [] if gauss_next is None else [gauss_next], dtype=torch.float64
        ),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.random.get_rng_state()
    save_file(tensors, folder / f"random-{rank}.safetensors")


def load_random_state(folder: Path, rank: int) -> None:
    """Take over what `save_random_state` wrote; a process that was not there goes on as it is.

    Only the dropout of an adapter draws numbers in training. With another number of processes it
    has to draw others.
    """
    path = folder / f"random-{rank}.safetensors"
    if not path.is_file():
        return
    tensors = load_file(path)
    torch.random.set_rng_state(tensors["cpu"])
    position, has_gauss, gauss = tensors["numpy.rest"].tolist()
    keys = tensors["numpy.keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    version, *internal = tensors["python.state"].tolist()
    random.setstate((version, tuple(internal), next(iter(tensors["python.gauss"].tolist()), None)))
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.random.set_rng_state(tensors["cuda"])


def own_files(folder: Path, rank: int) -> list[Path]:
    """The files of a checkpoint that a process has written; what is nobody's is the first's.

    The mark of a whole one is not among them: whoever copies the files has to set it last.
    """
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != WHOLE and _writer(path.name) == rank
    ]


def _writer(name: str) -> int:
    """The process that writes a file of this name."""
    part, state = _PART.fullmatch(name), _RANDOM.fullmatch(name)
    if part is not None:
        return int(part[1]) - 1
    return int(state[1]) if state is not None else 0


@contextmanager
def _without_advice() -> Iterator[None]:
    """Torch warns one process that there is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _tensors(policy: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """By name, what changes in training; the memory itself and no copy."""
    tied = tied_names(policy)
    weights: dict[str, Any] = get_model_state_dict(policy, options=_TRAINED_ONLY)
    tensors = {f"model.{name}": weight for name, weight in weights.items() if name not in tied}
    states: Any = get_optimizer_state_dict(policy, optimizer, options=_TRAINED_ONLY)["state"]
    for name, values in states.items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in values.items()}
    return tensors


def _files(tensors: dict[str, Tensor]) -> dict[str, int]:
    """The file of each tensor, from 1, so that no process's file is much larger than the limit."""
    files: dict[str, int] = {}
    file, size = 1, 0
    for name, tensor in tensors.items():
        here: Any = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if size and size + here.nbytes > _FILE_BYTES:
            file, size = file + 1, 0
        files[name] = file
        size += here.nbytes
    return files
