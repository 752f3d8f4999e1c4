"""Running other work inside a model's call, so that the hooks of its wrappers fire around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tspin.errors import TspinError

__all__ = ["causal_model", "replaced_forward"]


def causal_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside wrappers of adapters and of distributed training.

    Raises:
        TspinError: there is none.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise TspinError(f"{type(model).__name__} holds no transformers model")


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let calls of a module run `forward`; its hooks and those of its wrappers stay.

    DDP and FSDP gather, mark and reduce around the call of the module that they wrap. Work on the
    inner module beside that call would go past them, and its gradients would not be reduced.
    """
    # On the object, over the method of the class; accelerate may have set one there already.
    before = {key: value for key, value in module.__dict__.items() if key == "forward"}
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        module.__dict__.update(before)
