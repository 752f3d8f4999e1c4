"""Whether a model's output head can be run in chunks, and in what precision it computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tspin.attention.redirection import causal_model
from tspin.errors import TspinError
from tspin.forward.logprobs import response_logps

__all__ = ["check_head", "output_dtypes"]

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Nats per token by which two orders of the same arithmetic may differ."""


def check_head(model: nn.Module, batch: Mapping[str, Tensor], *, chunk_size: int) -> bool:
    """Whether the chunked head gives what the model's own logits give, on one small batch.

    Worth two passes at the start of a training: an architecture never tried here could do more
    between backbone and logits. False means: use head="model".

    Args:
        model: On its device; its mode is given back.
        batch: A small one, as `response_logps` takes it.
        chunk_size: Response tokens whose logits exist at one time.
    """
    was_training = model.training
    model.eval()  # Dropout would make any two passes differ.
    try:
        with torch.no_grad(), output_dtypes(model) as dtypes:
            own, counts = response_logps(model, batch, chunk_size=chunk_size, head="model")
            try:
                chunked, _ = response_logps(model, batch, chunk_size=chunk_size)
            except TspinError:
                return False
    finally:
        model.train(was_training)
    difference = (own - chunked).abs().sum() / counts.sum().clamp(min=1)
    return bool(difference <= max(_TOLERANCE[dtype] for dtype in dtypes))


@contextmanager
def output_dtypes(model: nn.Module) -> Iterator[set[torch.dtype]]:
    """The precisions that the output layer computes in: autocast differs from the weights."""
    causal = causal_model(model)
    dtypes = {causal.dtype}
    layer: nn.Module | None = causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    if layer is None:
        yield dtypes
        return
    hook = layer.register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
    try:
        yield dtypes
    finally:
        hook.remove()
