"""What the machine is, and the random model that most parts train."""

from __future__ import annotations

import torch

from benchmarks.gpu.machine import machine
from benchmarks.gpu.request import Publish, Request
from benchmarks.training.models import make_model
from benchmarks.training.task import SEED

__all__ = ["measure"]


def measure(request: Request, publish: Publish) -> None:
    """Find out about the machine, and write the model."""
    sizes = request.sizes
    environment = machine(request.command)
    publish({"environment": environment})
    torch.manual_seed(SEED)
    with torch.device(sizes.device):
        parameters = make_model(sizes.model, request.model, torch.float32)
    model = {"shape": sizes.model, "parameters": parameters, "dtype": sizes.dtype}
    publish({"environment": environment, "model": model})
