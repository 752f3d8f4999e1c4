"""Sums of three numbers: many right answers a prompt."""

from __future__ import annotations

import random
import re

from study.skills.skill import Item
from tspin.demo.problems import NAMES

__all__ = ["Sums"]

TOTALS = (10, 20)
SLIP_RATE = 0.04
_NUMBERS = re.compile(r"[0-9]+")
_FORM = re.compile(r"Parts: (\d+) and (\d+) and (\d+)\. (\d+) \+ (\d+) \+ (\d+) = (\d+)")
REQUESTS = (
    "Split {total} into three parts for {names}.",
    "{names} share {total}. How much does each get?",
    "Find three numbers for {names} that make {total}.",
)


class Sums:
    """Any three positive numbers with the right sum are right: what is learned is a distribution.

    The prompts' names make them different; the answer does not depend on them.
    """

    extractor = "equation"
    answer = "equation"

    def draw(self, rng: random.Random) -> Item:
        """A total to be split into three."""
        total = rng.randint(*TOTALS)
        names = rng.sample(NAMES, 3)
        people = f"{names[0]}, {names[1]} and {names[2]}"
        prompt = rng.choice(REQUESTS).format(total=total, names=people)
        return Item(f"{total}/{people}", prompt, total)

    def annotation(self, item: Item) -> str:
        """Three parts, drawn evenly, then the sum as a check; the item alone decides the draw."""
        a, b, c = self._parts(item.facts, random.Random(item.key))
        return f"Parts: {a} and {b} and {c}. {a} + {b} + {c} = {item.facts}"

    def base_answer(self, item: Item, rng: random.Random) -> str:
        """Three numbers in other words; a slip changes one."""
        parts = self._parts(item.facts, rng)
        if rng.random() < SLIP_RATE:
            parts[rng.randrange(3)] += rng.choice((1, 2, 10))
        form = rng.choice(
            ("{}, {}, {}.", "{} and {}, then {}.", "{}; {}; {}", "First {}, next {}, last {}.")
        )
        return form.format(*parts)

    def is_right(self, item: Item, text: str) -> bool:
        """The first three numbers are positive and add up to the total."""
        numbers = [int(number) for number in _NUMBERS.findall(text)[:3]]
        return len(numbers) == 3 and min(numbers) > 0 and sum(numbers) == item.facts

    def is_annotated(self, item: Item, text: str) -> bool:
        """In the annotator's form, the same parts twice, and the sum is right."""
        match = _FORM.fullmatch(" ".join(text.split()))
        if match is None:
            return False
        numbers = [int(number) for number in match.groups()]
        same = numbers[:3] == numbers[3:6] and numbers[6] == item.facts
        return same and self.is_right(item, text)

    def _parts(self, total: int, rng: random.Random) -> list[int]:
        first, second = sorted(rng.sample(range(1, total), 2))
        return [first, second - first, total - second]
