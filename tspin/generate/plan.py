"""Which responses to which prompts are made, in which order: the same plan at any time."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from tspin.engines import GenerationRequest
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, ResponseKey, record_error
from tspin.seeds import derive_seed
from tspin.tokens.prompts import PromptTemplate

__all__ = ["ResponsePlan"]


@dataclass
class ResponsePlan:
    """Responses in the order of the input, all to one prompt together, and that of the work.

    Prompts are kept as token ids (4 bytes a token), once; the records are not.
    """

    keys: list[ResponseKey] = field(default_factory=list)
    prompts: list[array[int]] = field(default_factory=list)
    """Of each response."""
    seeds: array[int] = field(default_factory=lambda: array("q"))
    over_long: list[str] = field(default_factory=list)
    """Ids of the records left out because their prompts are too long."""
    order: list[int] = field(default_factory=list)
    """Indices of `keys`, longest prompt first: if memory does not suffice it shows at once."""

    @classmethod
    def of(
        cls,
        records: Iterable[AnnotatedRecord],
        template: PromptTemplate,
        *,
        seed_of: Callable[[str], int],
        max_prompt: int,
        over_long: Literal["error", "drop"],
        samples: int = 1,
        source: Path | None = None,
    ) -> ResponsePlan:
        """Tokenise all prompts and sort them by length.

        Args:
            records: To be answered, in order.
            template: Renders their prompts.
            seed_of: A record's id to the seed of its first response, from which those of further
                ones are derived.
            max_prompt: Longest prompt in tokens.
            over_long: Whether a longer one is an error or is dropped.
            samples: Responses to each prompt.
            source: The file of the records, for errors.

        Raises:
            InputError: a prompt has no tokens or too many, the template refuses a record, or two
                share an id.
        """
        plan = cls()
        for record in records:
            try:
                prompt = _prompt(record, template)
                if len(prompt) > max_prompt and over_long == "error":
                    raise InputError(_too_long(record.id, len(prompt), max_prompt))
            except InputError as error:
                if source is None:
                    raise
                raise record_error(source, record.id, str(error)) from None
            if len(prompt) <= max_prompt:
                plan._add(record.id, array("i", prompt), seed_of(record.id), samples)
                continue
            plan.over_long.append(record.id)
        # The id decides among equals, so that the order of the input does not.
        places = range(len(plan.keys))
        plan.order = sorted(places, key=lambda at: (-len(plan.prompts[at]), plan.keys[at]))
        if any(
            plan.keys[a] == plan.keys[b] for a, b in zip(plan.order, plan.order[1:], strict=False)
        ):
            raise InputError("two records have the same id; ids must be unique")
        return plan

    def _add(self, identity: str, prompt: array[int], seed: int, samples: int) -> None:
        for sample in range(samples):
            self.keys.append((identity, sample))
            self.prompts.append(prompt)
            self.seeds.append(derive_seed(seed, "sample", sample) if sample else seed)

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, decisive: Mapping[str, Any]) -> str:
        """Hex SHA-256 over all prompts, their seeds, and what else decides the responses."""
        digest = hashlib.sha256(orjson.dumps(decisive, option=orjson.OPT_SORT_KEYS))
        for at in self.order:
            identity, sample = self.keys[at]
            parts = [identity, self.seeds[at], len(self.prompts[at]), *([sample] if sample else [])]
            digest.update(orjson.dumps(parts))
            digest.update(self.prompts[at].tobytes())
        return digest.hexdigest()

    def requests(
        self,
        answered: Container[ResponseKey],
        draft_of: Callable[[ResponseKey], tuple[int, ...]],
    ) -> Iterator[GenerationRequest]:
        """What is left to ask when some responses are there, longest prompt first.

        Args:
            answered: Responses that are not asked for again.
            draft_of: A response to the token ids of its draft, () where there is none.
        """
        for at in self.order:
            if (key := self.keys[at]) not in answered:
                identity, sample = key
                prompt, seed = tuple(self.prompts[at]), self.seeds[at]
                yield GenerationRequest(identity, prompt, seed, draft_of(key), sample)


def _prompt(record: AnnotatedRecord, template: PromptTemplate) -> list[int]:
    template.check(record)
    prompt = template.record_prompt_ids(record)
    if not prompt:
        raise InputError(f"record {record.id!r}: its prompt has no tokens")
    return prompt


def _too_long(identity: str, tokens: int, limit: int) -> str:
    return (
        f"record {identity!r}: its prompt has {tokens} tokens, and no more than {limit} leave room "
        "for a response. Raise prompt.max_length (if the model's context allows), lower "
        "generate.max_new_tokens, or set prompt.over_long to 'drop'"
    )
