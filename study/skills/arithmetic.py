"""Worked arithmetic: the demo's word problems of three steps."""

from __future__ import annotations

import random

from study.skills.skill import Item
from tspin.demo.corpus import WORDINGS, slipped_totals
from tspin.demo.problems import WordProblem, problems
from tspin.records.extractors import find_extractor

__all__ = ["Arithmetic"]

_last_number = find_extractor("last_number")
_exact = find_extractor("exact")


class Arithmetic:
    """One right answer a prompt."""

    extractor = "exact"
    answer = "last_number"

    def draw(self, rng: random.Random) -> Item:
        """A word problem with three changes of a quantity."""
        # The demo's own two splits are both taken: this study splits anew, by `key`.
        problem = next(problems(rng, rng.choice(("train", "train", "train", "heldout"))))
        return Item(",".join(map(str, problem.numbers)), problem.prompt, problem)

    def annotation(self, item: Item) -> str:
        """Three equations, `So` between them, and the answer."""
        problem: WordProblem = item.facts
        return problem.annotation

    def base_answer(self, item: Item, rng: random.Random) -> str:
        """The demo's wordings with their slips."""
        wording = rng.choices(list(WORDINGS), list(WORDINGS.values()))[0]
        return wording(item.facts, slipped_totals(item.facts, rng), rng)

    def is_right(self, item: Item, text: str) -> bool:
        """The last number is the answer; every wording ends with it."""
        return _last_number(text) == str(item.facts.answer)

    def is_annotated(self, item: Item, text: str) -> bool:
        """The annotation, letter by letter but for spaces."""
        return _exact(text) == _exact(item.facts.annotation)
