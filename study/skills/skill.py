"""A skill of the study: items, the annotator's answers, the base's answers, two verifiers."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Item", "Skill", "Split", "split_of"]

Split = Literal["train", "probe", "validation", "test"]

_SHARES: tuple[tuple[Split, int], ...] = (("test", 2), ("validation", 2), ("probe", 1))
"""Of 16 parts; the rest is for training, and the only one that pre-training sees."""


@dataclass(frozen=True)
class Item:
    """One prompt with what its verifiers need."""

    key: str
    """What decides the split: two items with the same substance have the same key."""
    prompt: str
    facts: Any


class Skill(Protocol):
    """A family of prompts with verifiable answers."""

    extractor: str
    """Of `tspin.records.extractors`, finds the answer of an annotation."""
    answer: str
    """Of `tspin.records.extractors`, finds the answer in as many wordings as it can."""

    def draw(self, rng: random.Random) -> Item:
        """One item, of any split."""

    def annotation(self, item: Item) -> str:
        """The annotator's answer: right, and in a form that the base has never seen."""

    def base_answer(self, item: Item, rng: random.Random) -> str:
        """An answer for pre-training: many wordings, never the annotator's, with slips."""

    def is_right(self, item: Item, text: str) -> bool:
        """Whether the substance is right, in whatever wording."""

    def is_annotated(self, item: Item, text: str) -> bool:
        """Whether it is right in every step and in the annotator's form."""


def split_of(key: str) -> Split:
    """The split of an item, the same on every machine."""
    part = zlib.crc32(key.encode()) % 16
    for split, share in _SHARES:
        if part < share:
            return split
        part -= share
    return "train"
