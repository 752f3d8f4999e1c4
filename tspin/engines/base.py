"""What every engine does: token ids in, one response a prompt out. It knows nothing of the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tspin.config import GenerateConfig
from tspin.records.records import FinishReason
from tspin.tokens.prompts import PromptTemplate

__all__ = [
    "BATCHES_A_GROUP",
    "Completion",
    "Engine",
    "GenerationRequest",
    "SamplingParams",
    "cut_at_stop",
    "finished_completion",
]


BATCHES_A_GROUP = 4
"""Batches that the engine `transformers` computes before it hands on what they gave. Who deals
requests out to several engines deals whole groups, so that the batches are those of one engine."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn, the same for every request of a call."""

    temperature: float
    """0 takes the likeliest token and ignores seeds."""
    top_p: float
    """Draw from the smallest set of tokens with at least this probability."""
    max_new_tokens: int
    """The end token counts: a response has at most this many tokens less one, or is cut off."""
    stop: tuple[str, ...] = ()
    """A response ends before the first of these strings."""

    @classmethod
    def of(cls, settings: GenerateConfig) -> SamplingParams:
        """As `generate` of the configuration samples."""
        return cls(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            stop=settings.stop,
        )


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to answer."""

    id: str
    prompt_ids: tuple[int, ...]
    seed: int
    """In [0, 2**63); decides the draws of this request alone."""
    draft_ids: tuple[int, ...] = ()
    """What the response may come to be, such as that of an earlier policy under the same seed. It
    saves time where it comes true, and decides nothing; engines may leave it aside."""
    sample: int = 0
    """Which response to the prompt it is, where several are asked for."""


@dataclass(frozen=True)
class Completion:
    """One answer."""

    id: str
    text: str
    """Valid Unicode, without the end token and the stop string; special tokens by their names."""
    finish_reason: FinishReason
    """"stop": the end token or a stop string came; "length": cut off at `max_new_tokens`."""
    prompt_tokens: int
    response_tokens: int
    """Tokens that the model emitted, without the end token, with those of a stop string."""
    seed: int
    special_tokens: int = 0
    """Special tokens in the text; their names in it stand for them."""
    sample: int = 0
    """Of the request."""


class Engine(Protocol):
    """Answers any number of requests.

    A response depends on its prompt, its seed, the sampling parameters and the policy, not on the
    requests beside it nor on what was generated before, up to the rounding of the arithmetic.
    """

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        """Answer every request; finished responses come in groups, in any order.

        A group is what should become durable together. Requests are taken from the iterable as
        the engine can work on them.
        """
        ...

    def close(self) -> None:
        """Give back memory and processes; the engine is of no use afterwards."""
        ...


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one.

    Example:
        >>> cut_at_stop("46; then ### Instruction", ["###", ";"])
        ('46', True)
    """
    positions = [at for at in (text.find(string) for string in stop) if at >= 0]
    return (text[: min(positions)], True) if positions else (text, False)


def finished_completion(
    request: GenerationRequest,
    emitted: Sequence[int],
    sampling: SamplingParams,
    template: PromptTemplate,
) -> Completion:
    """A response from the tokens that a model emitted, up to and with the one that ended it.

    Args:
        request: What was asked.
        emitted: Token ids that the engine sampled, its end token included.
        sampling: Says the stop strings.
        template: Decodes them.
    """
    length = next((at for at, index in enumerate(emitted) if index in template.stop_ids), None)
    text, stopped = cut_at_stop(template.decode(emitted), sampling.stop)
    names = template.special_names(emitted)
    return Completion(
        id=request.id,
        text=text,
        finish_reason="stop" if stopped or length is not None else "length",
        prompt_tokens=len(request.prompt_ids),
        response_tokens=len(emitted) if length is None else length,
        seed=request.seed,
        # A stop string may have cut some of them off.
        special_tokens=min(len(names), sum(text.count(name) for name in set(names))),
        sample=request.sample,
    )
