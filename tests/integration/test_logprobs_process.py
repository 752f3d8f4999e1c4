"""Response log-probabilities in real processes: their peak memory, and two of them under DDP."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from tiny_models import Batch, llama, make_batch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests import warm
from tspin.forward.logprobs import response_logps
from tspin.losses import tspin_loss

pytestmark = [pytest.mark.integration, pytest.mark.long]

VOCABULARY = 60_000
TOKENS = 2_000  # All logits: 60,000 * 2,000 * 4 bytes = 458 MiB.
CHUNK = 200  # 46 MiB; less than 32 would measure the holes that glibc's allocator leaves.

PEAK = f"""
import re
from pathlib import Path
import torch
from tiny_models import llama, plain_logps
from tspin.forward import logprobs
from tspin.forward.logprobs import response_logps

logprobs.KEPT = 0  # As with a vocabulary of which no more than a chunk is kept.

def peak():
    # Not ru_maxrss: a process has that of the one that started it, and pytest may be the larger.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*([0-9]+) kB", status)[1]) / 1024  # MiB

model = llama(vocab_size={VOCABULARY}, max_position_embeddings={TOKENS} + 1)
ids = torch.zeros(1, {TOKENS} + 1, dtype=torch.int64)
mask = torch.ones_like(ids)
batch = {{"input_ids": ids, "attention_mask": mask, "response_mask": mask.bool()}}
model(ids[:, :8]).logits.sum().backward()  # Weights and their gradients are there either way.
before = peak()
response_logps(model, batch, chunk_size={CHUNK})[0].sum().backward()
chunked = peak()
plain_logps(model, batch).sum().backward()
print(chunked - before, peak() - before)
"""


def test_peak_memory_is_that_of_chunks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    chunked, plain = (float(number) for number in done.stdout.split())
    # Logits, and their log-softmax, which becomes their gradient: of a chunk. Of everything, the
    # gradients of both as well.
    assert chunked < 4 * 46
    assert plain > 2.5 * 458


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """The loss of two triplets a process."""
    logps, _ = response_logps(model, batch, chunk_size=7)
    return tspin_loss(*logps.chunk(3), alpha=1.0, beta=0.1).loss


def share(batch: Batch, rank: int) -> Batch:
    """The rows of one of two processes: of each of y, y' and y0 one half."""
    rows = torch.arange(12).reshape(3, 2, 2)[:, rank].flatten()
    return {key: value[rows] for key, value in batch.items()}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
    )
    wrapped = DistributedDataParallel(llama(seed=rank).double())
    loss_of(wrapped, share(make_batch(rows=12), rank)).backward()
    gradients = {name: p.grad for name, p in wrapped.module.named_parameters()}
    save_file(gradients, f"{folder}/{rank}.safetensors")
    # A wrapper that outlives the group destroys it with Python's lock held, and can wait for ever
    # for a thread of gloo's that wants the same lock.
    del wrapped, gradients
    gc.collect()
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    warm.spawn(one_of_two, str(tmp_path), processes=2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    # DDP starts both from the weights of rank 0.
    model = llama(seed=0).double()
    loss_of(model, make_batch(rows=12)).backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], parameter.grad, rtol=1e-9, atol=1e-12), name
