"""How far a policy is from a teacher, token by token, over the whole vocabulary.

The teacher sees the annotation in its prompt and the policy does not (arXiv 2601.19897). Both
look at the same responses, so the hidden states that predict a response token exist for both: they
are kept, and only a chunk of them becomes logits at a time, of both models together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tspin.forward.logprobs import (
    Head,
    Logits,
    chunk_scores,
    kept_tokens,
    token_logps,
    with_states,
)
from tspin.forward.response_tokens import ResponseTokens
from tspin.models.policy import Policy

__all__ = [
    "Divergence",
    "distilled_sums",
    "frozen",
    "frozen_copy",
    "token_divergence",
    "with_teacher",
]

Divergence = Literal["forward", "reverse"]

_TEACHER, _PLACES = "teacher", "places"


def token_divergence(logits: Tensor, teacher_logits: Tensor, *, divergence: Divergence) -> Tensor:
    """Kullback-Leibler divergence of each token's distribution from the teacher's, (N,) nats.

    forward: sum over the vocabulary of q (log q - log p), reverse: of p (log p - log q), with p of
    the policy and q of the teacher. As of TRL's SDFTTrainer with `distillation_mode="full_logits"`
    and `distillation_alpha` 0 (forward) or 1 (reverse).

    Args:
        logits: (N, V) of the policy that is trained.
        teacher_logits: (N, V), without a gradient.
        divergence: Which of both.
    """
    exact = torch.promote_types(logits.dtype, torch.float32)
    policy_NV = logits.to(exact).log_softmax(dim=-1)
    teacher_NV = teacher_logits.detach().to(exact).log_softmax(dim=-1)
    if divergence == "reverse":
        return (policy_NV.exp() * (policy_NV - teacher_NV)).sum(dim=-1)
    return (teacher_NV.exp() * (teacher_NV - policy_NV)).sum(dim=-1)


def frozen_copy(policy: Policy) -> Policy:
    """The policy as it is now, for a teacher that stays so.

    Only what is trained is copied: under an adapter both have the same base in memory. Not of a
    policy whose weights are sharded, which has to be loaded again.
    """
    shared = chain((p for p in policy.parameters() if not p.requires_grad), policy.buffers())
    teacher = copy.deepcopy(policy, {id(tensor): tensor for tensor in shared})
    return frozen(teacher)


def frozen(teacher: Policy) -> Policy:
    """The teacher itself, which no training changes any more and no dropout disturbs."""
    return teacher.requires_grad_(False).eval()


def with_teacher(
    batch: dict[str, Any],
    examples: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
) -> dict[str, Any]:
    """A batch with that of the teacher beside it, if the examples have a prompt for one.

    `teacher` is a batch of the teacher's prompts with the y' alone, and in it `places` (N',): of
    each of their N' tokens the number that it has among those of the policy's batch.

    Args:
        batch: As `collate` made it of the examples.
        examples: As the collators take them, with y and y'.
        collate: One of the collators.
    """
    if examples[0].get("teacher_prompt_ids") is None:
        return batch
    alone = {"annotated_ids": None, "proto_synthetic_ids": None, "reference_logps": None}
    teacher = collate(
        [{**one, **alone, "prompt_ids": one["teacher_prompt_ids"]} for one in examples]
    )
    lengths, rows = _lengths_and_rows(batch)
    taught_lengths, taught_rows = _lengths_and_rows(teacher)
    starts = [0, *accumulate(lengths)]
    # All y come first, then all y'; of the teacher's there are y' alone, and equal ones once.
    row_of = dict(zip(taught_rows, rows[len(examples) :], strict=True))
    places = [
        place
        for row, length in enumerate(taught_lengths)
        for place in range(starts[row_of[row]], starts[row_of[row]] + length)
    ]
    return batch | {_TEACHER: teacher | {_PLACES: torch.tensor(places, dtype=torch.int64)}}


def distilled_sums(
    model: nn.Module,
    teacher: nn.Module,
    batch: Mapping[str, Any],
    *,
    divergence: Divergence,
    chunk_size: int,
    head: Head = "chunked",
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of each response, and the divergence from a teacher on each y'.

    Args:
        model: See `tspin.forward.logprobs.response_logps`.
        teacher: As `frozen` or `frozen_copy` makes it, set up as the model is.
        batch: With the teacher's beside it (`with_teacher`).
        divergence: See `token_divergence`.
        chunk_size: Response tokens whose logits exist at one time.
        head: See `tspin.forward.logprobs.response_logps`.

    Returns:
        Summed log-probabilities (R,) in nats and numbers of tokens (R,), by role; summed
        divergences (B,) in nats, of each y'.

    Raises:
        TspinError: see `tspin.forward.logprobs.response_logps`.
    """
    taught: Mapping[str, Any] = batch[_TEACHER]
    states: list[tuple[Tensor, Logits]] = []

    def keep(tokens: ResponseTokens, values: Tensor, logits_of: Logits) -> tuple[Tensor]:
        states.append((values, logits_of))
        return (values,)

    with torch.no_grad():
        with_states(teacher, taught, keep, head=head)
    ((teacher_values, teacher_logits),) = states

    def scores(tokens: ResponseTokens, values: Tensor, logits_of: Logits) -> tuple[Tensor, Tensor]:
        logps_of = partial(_logps, logits_of)
        logps = chunk_scores(logps_of, values, tokens.targets, chunk_size, kept_tokens(model))
        both = partial(_divergence, logits_of, teacher_logits, divergence)
        chosen = values.index_select(0, taught[_PLACES])
        # Several arrays of a chunk's size are needed for its gradient, so none but one is kept.
        return logps, chunk_scores(both, chosen, teacher_values, chunk_size, 0)

    (logps_N, divergences_N), tokens = with_states(model, batch, scores, head=head)
    return tokens.sums(logps_N), tokens.counts, ResponseTokens(taught).sums(divergences_N)


def _logps(logits_of: Logits, values: Tensor, targets: Tensor) -> Tensor:
    return token_logps(logits_of(values), targets)


def _divergence(
    logits_of: Logits,
    teacher_logits_of: Logits,
    divergence: Divergence,
    values: Tensor,
    teacher_values: Tensor,
) -> Tensor:
    with torch.no_grad():
        teacher_logits = teacher_logits_of(teacher_values)
    return token_divergence(logits_of(values), teacher_logits, divergence=divergence)


def _lengths_and_rows(batch: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Tokens of each response that is in a batch, and which of them each one given is."""
    lengths = batch["lengths"] if "lengths" in batch else batch["response_mask"].sum(dim=1)
    rows = batch["rows"].tolist() if "rows" in batch else list(range(len(lengths)))
    return lengths.tolist(), rows
