"""Summed response log-probabilities without the logits of a whole batch.

The logits of a batch can be larger than all activations. So only the hidden states that predict a
response token go through the output head, some at a time, and again in the backward pass.

What follows the backbone differs between architectures (a bias, soft-capping, scales, adapters on
the head). None of it is written again here: the head is the model's own `forward`, run with its
backbone replaced by hidden states that are known already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tspin.errors import TspinError
from tspin.redirection import causal_model, replaced_forward
from tspin.response_tokens import ResponseTokens

__all__ = ["Head", "check_head", "output_dtypes", "response_logps"]

Head = Literal["chunked", "model"]

_INPUTS = ("input_ids", "attention_mask", "position_ids")

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Nats per token by which two orders of the same arithmetic may differ."""


def response_logps(
    model: nn.Module, batch: Mapping[str, Any], *, chunk_size: int, head: Head = "chunked"
) -> tuple[Tensor, Tensor]:
    """logp(r) of each row: the sum over its response tokens of log pi(token given all before it).

    Args:
        model: A causal language model of transformers, with LoRA or not, wrapped for distributed
            training or not. Everything runs inside one call of `model`, so that the hooks of DDP
            and FSDP fire as for any forward pass.
        batch: Padded, as `tspin.collator` makes it: `input_ids`, `attention_mask`,
            `response_mask`, all (R, L), right-padded. Or packed, as `tspin.packing` makes it, with
            the model under `tspin.tree_attention.tree_attention`.
        chunk_size: Response tokens whose logits exist at one time.
        head: "chunked", or "model" to take the logits that the model itself returns for all
            positions: slower and larger, for architectures that fail `check_head`.

    Returns:
        Summed log-probabilities (R,) in nats, float32 (float64 if the model computes in it), and
        numbers of response tokens (R,), for R responses. Sums are added in a fixed order.

    Raises:
        TspinError: the model's backbone cannot be told from its head; use head="model".
    """
    causal = causal_model(model)
    own_forward = causal.forward
    tokens = ResponseTokens(batch)

    def forward(**inputs: Any) -> Tensor:
        # Set in here: wrappers of distributed training take apart what is handed to them.
        inputs |= {"use_cache": False, "return_dict": True, **tokens.layout}
        if head == "model":
            logits_NV = tokens.select(own_forward(**inputs).logits)
            return _in_chunks(_token_logps, logits_NV, tokens.targets, chunk_size)
        hidden_NH, head_logps = _split_at_head(causal, own_forward, inputs, tokens)
        return _in_chunks(head_logps, hidden_NH, tokens.targets, chunk_size)

    with replaced_forward(causal, forward):
        logps_N = model(**{name: batch[name] for name in _INPUTS if name in batch})
    return tokens.sums(logps_N), tokens.counts


def check_head(model: nn.Module, batch: Mapping[str, Tensor], *, chunk_size: int) -> bool:
    """Whether the chunked head gives what the model's own logits give, on one small batch.

    Worth two passes at the start of a training: an architecture never tried here could do more
    between backbone and logits. False means: use head="model".
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


def _in_chunks(
    token_logps: Callable[[Tensor, Tensor], Tensor],
    values: Tensor,
    targets: Tensor,
    chunk_size: int,
) -> Tensor:
    """From (N, X) values to (N,) token log-probabilities, with one chunk's logits at a time.

    All chunks but the last are computed again in the backward pass; that one's backward runs
    first, directly after its forward, so recomputing it would save nothing.
    """
    value_chunks, target_chunks = torch.split(values, chunk_size), torch.split(targets, chunk_size)
    logps: list[Tensor] = [
        checkpoint(token_logps, value, target, use_reentrant=False)
        for value, target in zip(value_chunks[:-1], target_chunks[:-1], strict=True)
    ]
    return torch.cat([*logps, token_logps(value_chunks[-1], target_chunks[-1])])


def _token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    # bfloat16 has three digits: far too few to sum the exponentials of a vocabulary.
    exact = torch.promote_types(logits.dtype, torch.float32)
    return -F.cross_entropy(logits.to(exact), targets, reduction="none")


def _split_at_head(
    causal: PreTrainedModel,
    own_forward: Callable[..., Any],
    inputs: dict[str, Any],
    tokens: ResponseTokens,
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """The hidden states (N, H) that predict response tokens, and what makes logps of them."""
    backbone: nn.Module = causal.get_decoder()  # type: ignore[no-untyped-call]
    own_backbone = backbone.forward
    selected: list[tuple[type[Any], Tensor]] = []

    def run(*args: Any, **kwargs: Any) -> Any:
        output = own_backbone(*args, **kwargs)
        hidden_RLH = output.last_hidden_state
        selected.append((type(output), tokens.select(hidden_RLH)))
        # The rest of the model's forward then runs on no positions at all.
        return type(output)(last_hidden_state=hidden_RLH[:1, :0])

    with replaced_forward(backbone, run):
        own_forward(**inputs)
    if len(selected) != 1:
        name = type(causal).__name__
        raise TspinError(f"cannot tell the output head of {name} apart; use head='model'")
    output_type, hidden_NH = selected[0]
    # One token stands for an input that nothing will look at.
    stub = {"input_ids": inputs["input_ids"][:1, :1], "use_cache": False, "return_dict": True}

    def head_logps(hidden: Tensor, targets: Tensor) -> Tensor:
        def known(*_: Any, **__: Any) -> Any:
            return output_type(last_hidden_state=hidden.unsqueeze(0))

        with replaced_forward(backbone, known):
            logits_1CV = own_forward(**stub).logits
        return _token_logps(logits_1CV.squeeze(0), targets)

    return hidden_NH, head_logps
