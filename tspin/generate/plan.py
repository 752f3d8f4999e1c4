"""Which responses to which prompts are made, in which order: the same plan at any time."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from tspin.engines import GenerationRequest
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, ResponseKey, record_error
from tspin.seeds import derive_seed
from tspin.tokens.compact import Places, Ragged, Texts
from tspin.tokens.prompts import PromptTemplate

__all__ = ["ResponsePlan"]


class ResponsePlan:
    """Responses in the order of the input, all to one prompt together, and that of the work.

    Prompts are kept as token ids (4 bytes a token), once; the records are not. A response's place
    is its number in the order of the input.

    Attributes:
        samples: Responses to each prompt.
        over_long: Ids of the records left out because their prompts are too long.
    """

    def __init__(self, samples: int = 1) -> None:
        """Begin without prompts."""
        self.samples = samples
        self.over_long: list[str] = []
        self._ids, self._prompts = Texts(), Ragged("i")  # Of each prompt.
        self._seeds = array("q")  # Of each response.
        self._finish()

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
        plan = cls(samples)
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
                plan._add(record.id, prompt, seed_of(record.id))
                continue
            plan.over_long.append(record.id)
        plan._finish()
        return plan

    def _add(self, identity: str, prompt: list[int], seed: int) -> None:
        self._ids.append(identity)
        self._prompts.append(prompt)
        further = (derive_seed(seed, "sample", sample) for sample in range(1, self.samples))
        self._seeds.extend((seed, *further))

    def _finish(self) -> None:
        self._places = Places(self._ids)
        for at in self._places.repeated():
            if self._ids[at] in (self._ids[other] for other in self._of_hash(at) if other != at):
                raise InputError("two records have the same id; ids must be unique")
        # Longest first: if memory does not suffice it shows at once. The id decides among equals,
        # so that the order of the input does not.
        self._order = array("q")
        lengths = self._prompts.lengths()
        by_length = np.argsort(-lengths, kind="stable")
        changes = np.flatnonzero(np.diff(lengths[by_length])) + 1
        for equals in np.split(by_length, changes):
            self._order.extend(sorted(equals.tolist(), key=self._ids.__getitem__))

    def _of_hash(self, at: int) -> list[int]:
        return self._places.of(self._ids[at])

    def __len__(self) -> int:
        return len(self._seeds)

    def place_of(self, key: ResponseKey) -> int | None:
        """The place of a response; None where it is not asked for."""
        identity, sample = key
        if not 0 <= sample < self.samples:
            return None
        prompts = (at for at in self._places.of(identity) if self._ids[at] == identity)
        return next((at * self.samples + sample for at in prompts), None)

    def key(self, decisive: Mapping[str, Any]) -> str:
        """Hex SHA-256 over all prompts, their seeds, and what else decides the responses."""
        digest = hashlib.sha256(orjson.dumps(decisive, option=orjson.OPT_SORT_KEYS))
        for at, sample in self._work():
            identity, prompt = self._ids[at], self._prompts[at]
            seed = self._seeds[at * self.samples + sample]
            parts = [identity, seed, len(prompt), *([sample] if sample else [])]
            digest.update(orjson.dumps(parts))
            digest.update(prompt.tobytes())
        return digest.hexdigest()

    def _work(self) -> Iterator[tuple[int, int]]:
        """Prompt and sample of each response, in the order of the work."""
        return ((at, sample) for at in self._order for sample in range(self.samples))

    def requests(
        self,
        answered: Container[int],
        draft_of: Callable[[ResponseKey], tuple[int, ...]],
    ) -> Iterator[GenerationRequest]:
        """What is left to ask when some responses are there, longest prompt first.

        Args:
            answered: Places of responses that are not asked for again.
            draft_of: A response to the token ids of its draft, () where there is none.
        """
        for at, sample in self._work():
            place = at * self.samples + sample
            if place not in answered:
                identity, prompt = self._ids[at], tuple(self._prompts[at].tolist())
                draft = draft_of((identity, sample))
                yield GenerationRequest(identity, prompt, self._seeds[place], draft, sample)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        parts = (self._ids, self._prompts, self._places)
        numbers = (self._seeds, self._order)
        return sum(part.nbytes for part in parts) + sum(len(one) * one.itemsize for one in numbers)


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
