"""Which positions have logits, how many at a time, and what is kept for the backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tiny_models import HIDDEN, VOCABULARY, llama, make_batch, plain_logps
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from tspin.forward import logprobs
from tspin.forward.logprobs import response_logps, token_logps


@pytest.fixture
def none_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a vocabulary of which a chunk's logits are more than is kept."""
    monkeypatch.setattr(logprobs, "KEPT", 0)


def head_rows(model: LlamaForCausalLM) -> tuple[list[int], Any]:
    """Record how many positions each call of the output layer sees."""
    rows: list[int] = []
    hook = model.lm_head.register_forward_hook(
        lambda _module, _inputs, output: rows.append(output.shape[:-1].numel())
    )
    return rows, hook


@pytest.mark.usefixtures("none_kept")
def test_the_head_sees_response_positions_only_and_no_more_than_a_chunk() -> None:
    model = llama()
    batch = make_batch()
    tokens = int(batch["response_mask"].sum())
    rows, hook = head_rows(model)
    logps, _ = response_logps(model, batch, chunk_size=7)
    assert sum(rows) == tokens < batch["input_ids"].numel()
    assert max(rows) == 7
    forward_calls = len(rows)
    logps.sum().backward()
    hook.remove()
    # All chunks but the last, a full one, are made again.
    assert tokens % 7
    assert next(filter(None, rows)) == tokens % 7
    assert sum(rows[forward_calls:]) == tokens - 7


@pytest.mark.usefixtures("none_kept")
def test_no_tensor_kept_for_the_backward_pass_is_larger_than_a_chunk_of_logits() -> None:
    model = llama()
    batch = make_batch(rows=30)
    tokens = int(batch["response_mask"].sum())
    sizes = saved_widths(lambda: response_logps(model, batch, chunk_size=7)[0])
    assert sum(sizes) == 7  # The last chunk's, which its backward needs at once.
    assert sum(saved_widths(lambda: plain_logps(model, batch))) > tokens  # The probe does see.


def saved_widths(logps: Callable[[], Tensor]) -> list[int]:
    """Rows of each tensor over the vocabulary that autograd keeps, weights not counted."""
    rows: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        of_weights = isinstance(tensor, nn.Parameter) or tensor.shape == (HIDDEN, VOCABULARY)
        if tensor.shape[-1:] == (VOCABULARY,) and not of_weights:
            rows.append(tensor.shape[:-1].numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logps()
    return rows


def test_the_backward_pass_makes_nothing_over_the_vocabulary_but_the_gradient_itself() -> None:
    logits, targets = torch.randn(50, VOCABULARY, requires_grad=True), torch.arange(50) % VOCABULARY
    logps = token_logps(logits, targets)
    kept = logps.grad_fn.saved_tensors[0].data_ptr()  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(logps, logits, torch.linspace(-1, 1, 50))
    assert gradient.data_ptr() == kept


def test_what_fits_is_kept_instead_of_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = llama(), make_batch()
    tokens = int(batch["response_mask"].sum())
    gradients = []
    for kept in (0, 14, tokens):
        monkeypatch.setattr(logprobs, "KEPT", 4 * VOCABULARY * kept)
        rows, hook = head_rows(model)
        logps, _ = response_logps(model, batch, chunk_size=7)
        forward_calls = len(rows)
        logps.sum().backward()
        hook.remove()
        assert max(rows) == 7
        assert sum(rows[forward_calls:]) == tokens - max(kept, 7)
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])  # type: ignore[union-attr]
        model.zero_grad()
    for again, kept in itertools.product(gradients[:1], gradients[1:]):
        assert all(torch.equal(a, b) for a, b in zip(again, kept, strict=True))


@contextmanager
def largest_float32() -> Iterator[list[int]]:
    """Rows of the largest float32 tensor over the vocabulary that any operation makes."""
    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple) else (result,):
                if not isinstance(value, Tensor) or value.dtype != torch.float32:
                    continue
                if value.shape[-1:] == (VOCABULARY,):
                    largest[0] = max(largest[0], value.shape[:-1].numel())
            return result

    with Watch():
        yield largest


@pytest.mark.parametrize("head", ["chunked", "model"])
def test_log_softmax_is_float32_in_chunks_for_bfloat16_models(head: Any) -> None:
    model = llama().bfloat16()
    batch = make_batch(rows=30)
    with largest_float32() as largest:
        logps, _ = response_logps(model, batch, chunk_size=20, head=head)
        logps.sum().backward()
    assert logps.dtype == torch.float32
    assert largest[0] == 20 < int(batch["response_mask"].sum())


def test_without_gradients_nothing_is_computed_twice() -> None:
    model = llama()
    rows, hook = head_rows(model)
    with torch.no_grad():
        logps, _ = response_logps(model, make_batch(), chunk_size=7)
    hook.remove()
    assert not logps.requires_grad
    assert sum(rows) == int(make_batch()["response_mask"].sum())
