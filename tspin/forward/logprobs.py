"""Summed response log-probabilities without the logits of a whole batch.

The logits of a batch can be larger than all activations. So only the hidden states that predict a
response token go through the output head, some at a time, and again in the backward pass.

What follows the backbone differs between architectures (a bias, soft-capping, scales, adapters on
the head). None of it is written again here: the head is the model's own `forward`, run with its
backbone replaced by hidden states that are known already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tspin.attention.redirection import causal_model, replaced_forward
from tspin.errors import TspinError
from tspin.forward.response_tokens import ResponseTokens

__all__ = [
    "KEPT",
    "Head",
    "Logits",
    "TokenScores",
    "chunk_scores",
    "kept_tokens",
    "response_logps",
    "response_sums",
    "token_logps",
    "with_states",
]

Head = Literal["chunked", "model"]

TokenScores = Callable[[Tensor, Tensor], Tensor]
"""From logits (N, V) and the tokens that follow (N,) to one number a token (N,), or X (N, X)."""

Logits = Callable[[Tensor], Tensor]
"""From what tokens are predicted from, (n, Y), to their logits (n, V)."""

Results = TypeVar("Results", bound=tuple[Tensor, ...])

_INPUTS = ("input_ids", "attention_mask", "position_ids")

KEPT = 2**28
"""Bytes of log-probabilities over the vocabulary that are kept for the backward pass where they are
more than a chunk's: to save less than this by computing it again would save nobody."""


def response_logps(
    model: nn.Module, batch: Mapping[str, Any], *, chunk_size: int, head: Head = "chunked"
) -> tuple[Tensor, Tensor]:
    """logp(r) of each row: the sum over its response tokens of log pi(token given all before it).

    Args:
        model: A causal language model of transformers, with LoRA or not, wrapped for distributed
            training or not. Everything runs inside one call of `model`, so that the hooks of DDP
            and FSDP fire as for any forward pass.
        batch: Padded, as `tspin.tokens.collator` makes it: `input_ids`, `attention_mask`,
            `response_mask`, all (R, L), right-padded. Or packed, as `tspin.tokens.packing` makes
            it, with the model under `tspin.attention.interface.tree_attention`.
        chunk_size: Response tokens whose logits exist at one time.
        head: "chunked", or "model" to take the logits that the model itself returns for all
            positions: slower and larger, for what fails `tspin.forward.head.check_head`.

    Returns:
        Summed log-probabilities (R,) in nats, float32 (float64 if the model computes in it), and
        numbers of response tokens (R,), for R responses. Sums are added in a fixed order.

    Raises:
        TspinError: the model's backbone cannot be told from its head; use head="model".
    """
    return response_sums(model, batch, token_logps, chunk_size=chunk_size, head=head)


def response_sums(
    model: nn.Module,
    batch: Mapping[str, Any],
    scores: TokenScores,
    *,
    chunk_size: int,
    head: Head = "chunked",
) -> tuple[Tensor, Tensor]:
    """As `response_logps`, for anything else that follows from the logits of each token.

    Args:
        model: As there, and so is what has no line here.
        batch: See there.
        scores: What is summed; it gets `chunk_size` tokens at a time.
        chunk_size: See there.
        head: See there.

    Returns:
        Sums over each response, (R,) or (R, X), and numbers of response tokens (R,).

    Raises:
        TspinError: see `response_logps`.
    """
    kept = kept_tokens(model)

    def use(tokens: ResponseTokens, values: Tensor, logits_of: Logits) -> tuple[Tensor]:
        scores_of = partial(_head_scores, logits_of, scores)
        return (chunk_scores(scores_of, values, tokens.targets, chunk_size, kept),)

    (scores_N,), tokens = with_states(model, batch, use, head=head)
    return tokens.sums(scores_N), tokens.counts


def with_states(
    model: nn.Module,
    batch: Mapping[str, Any],
    use: Callable[[ResponseTokens, Tensor, Logits], Results],
    *,
    head: Head,
) -> tuple[Results, ResponseTokens]:
    """Do something with what a batch's response tokens are predicted from, in one call of a model.

    Args:
        model: See `response_logps`.
        batch: See `response_logps`.
        use: Gets the batch's tokens, (N, Y) of them, and what makes logits (n, V) of any (n, Y).
        head: See `response_logps`.

    Returns:
        What `use` returned, and the batch's tokens.

    Raises:
        TspinError: see `response_logps`.
    """
    causal = causal_model(model)
    own_forward = causal.forward
    tokens = ResponseTokens(batch)
    unknown: list[str] = []

    def forward(**inputs: Any) -> Any:
        # Set in here: wrappers of distributed training take apart what is handed to them.
        inputs |= {"use_cache": False, "return_dict": True, **tokens.layout}
        if head == "model":
            return use(tokens, tokens.select(own_forward(**inputs).logits), lambda logits: logits)
        split = _split_at_head(causal, own_forward, inputs, tokens)
        if split is None:
            # Refused behind the call: an error in here would leave sharded weights gathered.
            unknown.append(type(causal).__name__)
            return torch.zeros_like(tokens.targets, dtype=torch.float32)
        return use(tokens, *split)

    with replaced_forward(causal, forward):
        results: Results = model(**{name: batch[name] for name in _INPUTS if name in batch})
    if unknown:
        raise TspinError(f"cannot tell the output head of {unknown[0]} apart; use head='model'")
    return results, tokens


def kept_tokens(model: nn.Module) -> int:
    """Tokens whose log-probabilities over the vocabulary are no more than `KEPT` bytes."""
    vocabulary: int = causal_model(model).config.get_text_config().vocab_size
    return KEPT // (4 * vocabulary)


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each token in nats, (N,), from logits (N, V) and the tokens (N,)."""
    # bfloat16 has three digits: far too few to sum the exponentials of a vocabulary.
    exact = torch.promote_types(logits.dtype, torch.float32)
    logps: Tensor = _TokenLogps.apply(logits.to(exact), targets)  # type: ignore[no-untyped-call]
    return logps


class _TokenLogps(torch.autograd.Function):
    """As `-F.cross_entropy(logits, targets, reduction="none")`, in two thirds of its memory.

    The gradient, (one-hot - softmax) times what comes in, is made in the place of the
    log-probabilities that were kept for it: a vocabulary's worth of numbers for each token, which
    is most of what a large vocabulary costs.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        logps_NV = F.log_softmax(logits, dim=-1)
        ctx.save_for_backward(logps_NV, targets)
        return logps_NV.gather(-1, targets[:, None]).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logps_NV, targets = ctx.saved_tensors
        gradient_N1 = gradient[:, None]
        gradient_NV = logps_NV.exp_().mul_(-gradient_N1)
        # Each row has one target, so nothing is added up in an order of its own.
        return gradient_NV.scatter_add_(-1, targets[:, None], gradient_N1), None


def _head_scores(
    head_logits: Callable[[Tensor], Tensor], scores: TokenScores, hidden: Tensor, targets: Tensor
) -> Tensor:
    return scores(head_logits(hidden), targets)


def chunk_scores(
    scores: TokenScores, values: Tensor, targets: Tensor, chunk_size: int, kept: int
) -> Tensor:
    """From (N, Y) values to one score a token or X, with one chunk's logits made at a time.

    Chunks are computed again in the backward pass but for the last ones, of at most `kept` tokens;
    the very last one's backward runs directly after its forward, so recomputing it would save
    nothing. The odd one is the first, so that the last is a large one.

    Args:
        scores: From rows of both to scores.
        values: (N, Y).
        targets: (N, ...), what belongs to each of them.
        chunk_size: Rows at a time.
        kept: Rows of which whatever the backward pass needs may be kept.
    """
    full, odd = divmod(len(targets), chunk_size)
    sizes = [odd] * (odd > 0) + [chunk_size] * full or [0]
    again = 0 if len(targets) <= kept else len(sizes) - max(kept // chunk_size, 1)
    parts = []
    for at, (value, target) in enumerate(
        zip(torch.split(values, sizes), torch.split(targets, sizes), strict=True)
    ):
        if at < again:
            parts.append(checkpoint(scores, value, target, use_reentrant=False))
        else:
            parts.append(scores(value, target))
    return torch.cat(parts)


def _split_at_head(
    causal: PreTrainedModel,
    own_forward: Callable[..., Any],
    inputs: dict[str, Any],
    tokens: ResponseTokens,
) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """The hidden states (N, H) that predict response tokens, and what makes logits of them.

    The model's own `forward` runs twice, and the backbone once. In the first run the backbone
    computes its hidden states, which are kept at the N positions that predict a response token,
    and hands on a slice of length 0: whatever follows it (norms, scales, the vocabulary's matrix)
    runs on nothing. In the second run, once a chunk, the backbone is replaced by those hidden
    states, and what follows makes their logits: so a bias, soft-capping (Gemma 2) or a scale
    (Granite, Cohere) is applied by the model's code and not by a copy of it. Only `forward` is
    replaced, never a module, so that hooks of DDP, FSDP and peft on the modules stay in place.

    None where the model calls its backbone never or more than once in a forward pass.
    """
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
        return None
    output_type, hidden_NH = selected[0]
    # One token stands for an input that nothing will look at.
    stub = {"input_ids": inputs["input_ids"][:1, :1], "use_cache": False, "return_dict": True}

    def head_logits(hidden: Tensor) -> Tensor:
        def known(*_: Any, **__: Any) -> Any:
            return output_type(last_hidden_state=hidden.unsqueeze(0))

        with replaced_forward(backbone, known):
            logits_1CV: Tensor = own_forward(**stub).logits
        return logits_1CV.squeeze(0)

    return hidden_NH, head_logits
