"""Which prompts are answered, in which order: the same plan whenever it is made."""

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
from tspin.records.records import AnnotatedRecord, record_error
from tspin.tokens.prompts import PromptTemplate

__all__ = ["ResponsePlan"]


@dataclass
class ResponsePlan:
    """Prompts in input order, and the order in which they are answered.

    Prompts are kept as token ids (4 bytes a token); the records are not.
    """

    ids: list[str] = field(default_factory=list)
    prompts: list[array[int]] = field(default_factory=list)
    seeds: array[int] = field(default_factory=lambda: array("q"))
    over_long: list[str] = field(default_factory=list)
    """Ids of the records left out because their prompts are too long."""
    order: list[int] = field(default_factory=list)
    """Indices of `ids`, longest prompt first: if memory does not suffice it shows at once."""

    @classmethod
    def of(
        cls,
        records: Iterable[AnnotatedRecord],
        template: PromptTemplate,
        *,
        seed_of: Callable[[str], int],
        max_prompt: int,
        over_long: Literal["error", "drop"],
        source: Path | None = None,
    ) -> ResponsePlan:
        """Tokenise all prompts and sort them by length.

        Args:
            records: To be answered, in order.
            template: Renders their prompts.
            seed_of: A record's id to the seed of its response.
            max_prompt: Longest prompt in tokens.
            over_long: Whether a longer one is an error or is dropped.
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
                plan.ids.append(record.id)
                plan.prompts.append(array("i", prompt))
                plan.seeds.append(seed_of(record.id))
                continue
            plan.over_long.append(record.id)
        # The id decides among equals, so that the order of the input does not.
        places = range(len(plan.ids))
        plan.order = sorted(places, key=lambda at: (-len(plan.prompts[at]), plan.ids[at]))
        if any(
            plan.ids[a] == plan.ids[b] for a, b in zip(plan.order, plan.order[1:], strict=False)
        ):
            raise InputError("two records have the same id; ids must be unique")
        return plan

    def __len__(self) -> int:
        return len(self.ids)

    def key(self, decisive: Mapping[str, Any]) -> str:
        """Hex SHA-256 over all prompts, their seeds, and what else decides the responses."""
        digest = hashlib.sha256(orjson.dumps(decisive, option=orjson.OPT_SORT_KEYS))
        for at in self.order:
            digest.update(orjson.dumps([self.ids[at], self.seeds[at], len(self.prompts[at])]))
            digest.update(self.prompts[at].tobytes())
        return digest.hexdigest()

    def requests(
        self, answered: Container[str], draft_of: Callable[[str], tuple[int, ...]]
    ) -> Iterator[GenerationRequest]:
        """What is left to ask when some ids are answered, longest prompt first.

        Args:
            answered: Ids that are not asked again.
            draft_of: An id to the token ids of its draft, () where there is none.
        """
        for at in self.order:
            if (identity := self.ids[at]) not in answered:
                prompt = tuple(self.prompts[at])
                yield GenerationRequest(identity, prompt, self.seeds[at], draft_of(identity))


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
