"""How a policy's forward passes are made: packed rows with tree attention, or padded ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from tspin.attention.interface import (
    UnsupportedModelError,
    check_layers,
    postponed_refusal,
    tree_attention,
)
from tspin.attention.redirection import causal_model
from tspin.forward.distillation import Divergence, distilled_sums, with_teacher
from tspin.forward.head import check_head, output_dtypes
from tspin.forward.logprobs import Head, TokenScores, response_sums, token_logps
from tspin.tokens.collator import TripletCollator, padded_batches
from tspin.tokens.packing import PackingCollator, Prompted, first_fit, pack

__all__ = ["ForwardPasses", "choose_passes", "evaluating", "on_device"]

log = logging.getLogger(__name__)

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Nats by which a response's two log-probabilities may differ, times the root of its tokens."""


@dataclass(frozen=True)
class ForwardPasses:
    """What the forward passes of a training, its reference and an evaluation have in common."""

    pad_token_id: int
    packed: bool = False
    """Prompts once and no padding (`tspin.tokens.packing`), or one padded row a response."""
    head: Head = "chunked"
    chunk_size: int = 1024
    """Response positions whose logits exist at one time."""

    @contextmanager
    def on(self, policy: nn.Module) -> Iterator[None]:
        """Set a policy up for these passes, their backward passes included."""
        if not self.packed:
            yield
            return
        with tree_attention(policy):
            yield

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One forward pass's batch from at least one example; see the collators."""
        collate = PackingCollator() if self.packed else TripletCollator(self.pad_token_id)
        return with_teacher(collate(examples), examples, collate)

    def batch(self, prompted: Sequence[Prompted]) -> dict[str, Any]:
        """One forward pass's batch for any number of responses to each prompt, in this order."""
        if self.packed:
            return pack(prompted)
        alone = {"synthetic_ids": None, "proto_synthetic_ids": None}
        return TripletCollator(self.pad_token_id)(
            [
                {"prompt_ids": list(prompt), "annotated_ids": list(response), **alone}
                for prompt, responses in prompted
                for response in responses
            ]
        )

    def logps(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Summed log-probabilities in nats and numbers of tokens; (responses,) by role."""
        return self.sums(model, batch, token_logps)

    def sums(
        self, model: nn.Module, batch: Mapping[str, Any], scores: TokenScores
    ) -> tuple[Tensor, Tensor]:
        """Sums of token scores (responses, ...) and numbers of tokens; (responses,) by role.

        Args:
            model: The policy, under `on`.
            batch: As `collate` or `batch` makes it.
            scores: What is summed; see `tspin.forward.logprobs.response_sums`.

        Raises:
            UnsupportedModelError: the model does something that a packed row does not allow.
        """
        with postponed_refusal():
            return response_sums(model, batch, scores, chunk_size=self.chunk_size, head=self.head)

    def distilled(
        self,
        model: nn.Module,
        teacher: nn.Module,
        batch: Mapping[str, Any],
        divergence: Divergence,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `logps`, and the summed divergence from a teacher on each y', (B,) in nats.

        Args:
            model: The policy, under `on`.
            teacher: A frozen copy of it, under `on`.
            batch: As `collate` makes it of examples with a prompt for the teacher.
            divergence: See `tspin.forward.distillation.token_divergence`.

        Raises:
            UnsupportedModelError: see `sums`.
        """
        with postponed_refusal():
            return distilled_sums(
                model,
                teacher,
                batch,
                divergence=divergence,
                chunk_size=self.chunk_size,
                head=self.head,
            )

    def cut(
        self, items: Sequence[int], sizes: Sequence[tuple[int, int, int]], budget: int
    ) -> list[list[int]]:
        """Distribute examples over passes of at most `budget` tokens, padding counted.

        An example that is larger by itself gets a pass of its own.

        Args:
            items: Indices of examples.
            sizes: By index; tokens packed, of the longest sequence, and the number of responses.
            budget: Tokens a pass.
        """
        if self.packed:
            return first_fit(items, lambda item: sizes[item][0], budget)
        rows = [(sizes[item][1], sizes[item][2], item) for item in items]
        return padded_batches(rows, budget)


def choose_passes(
    policy: nn.Module,
    prompted: Sequence[Prompted],
    *,
    pad_token_id: int,
    chunk_size: int,
    device: torch.device,
) -> ForwardPasses:
    """The fastest passes that give what plain ones give, found out on a few real examples.

    What plain ones give: log-probabilities of padded rows under the model's own attention. Packed
    ones are taken if every response's differs by no more than a tolerance times the root of its
    number of tokens: 1e-8 nats in float64, 1e-4 in float32, 0.1 in bfloat16, 0.02 in float16. If
    they do not, or the model does something that packing does not allow, a warning says so.

    Args:
        policy: On its device. Its mode stays.
        prompted: A few prompts with their responses, the shortest first, and the longest of all:
            only there would a window of attention that is not honoured show.
        pad_token_id: For padded rows.
        chunk_size: Response positions whose logits exist at one time.
        device: Where the policy is.
    """
    plain = ForwardPasses(pad_token_id, chunk_size=chunk_size)
    with evaluating(policy):
        batch = on_device(plain.batch(prompted[:1]), device)
        if not check_head(policy, batch, chunk_size=chunk_size):
            plain = replace(plain, head="model")
            log.warning(
                "this architecture's output head cannot be run in chunks; its logits are made for "
                "all positions at once, which takes more memory"
            )
        packed = replace(plain, packed=True)
        try:
            doubt = _difference(policy, packed, plain, prompted, device)
        except (UnsupportedModelError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            if isinstance(policy, FSDPModule) and not isinstance(error, UnsupportedModelError):
                raise  # Its weights are left gathered: no other pass would be possible.
            doubt = str(error)
    if _all_agree(doubt is None, device):
        return packed
    log.warning(
        "prompts are not shared and rows are padded, which is slower: %s",
        doubt or "another process found a difference",
    )
    return plain


def _difference(
    policy: nn.Module,
    packed: ForwardPasses,
    plain: ForwardPasses,
    prompted: Sequence[Prompted],
    device: torch.device,
) -> str | None:
    """What is wrong with packed passes, or None."""
    batch = on_device(packed.batch(prompted), device)
    with packed.on(policy), output_dtypes(policy) as dtypes:
        packed_logps, tokens = packed.logps(policy, batch)
    check_layers(causal_model(policy), batch["tree"])
    expected = torch.cat(
        [plain.logps(policy, on_device(plain.batch([one]), device))[0] for one in prompted]
    )
    allowed = max(_TOLERANCE[dtype] for dtype in dtypes)
    off = (packed_logps - expected).abs() / tokens.clamp(min=1).sqrt()
    # In this form a NaN is too large as well.
    if not bool((off <= allowed).all()):
        return (
            f"packed log-probabilities differ from padded ones by {float(off.max()):.2g} nats "
            f"times the root of the number of tokens, more than {allowed:g}"
        )
    return None


@contextmanager
def evaluating(policy: nn.Module) -> Iterator[None]:
    """No dropout and no gradients within; the policy's mode is given back, after an error too."""
    was_training = policy.training
    policy.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        policy.train(was_training)
        if isinstance(policy, FSDPModule):
            # A backward pass would let the last unit go. Until then the module's parameters are
            # the gathered weights, and an optimiser would be given those.
            policy.reshard()


def _all_agree(mine: bool, device: torch.device) -> bool:
    """Whether all processes say so: they must make the same forward passes."""
    if not torch.distributed.is_initialized():
        return mine
    said = torch.tensor(int(mine), device=device)
    torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MIN)
    return bool(said)


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
