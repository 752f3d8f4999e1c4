"""Seeded word problems with three changes of a quantity, and their worked answers.

Nothing here needs torch: a problem is a few words and four numbers. Which split a problem
belongs to is a property of its numbers alone, so a held-out problem can never be met with
other words in the training split, nor in the pre-training corpus (`tspin.demo.corpus`).
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Split = Literal["train", "heldout"]

START_RANGE = (5, 30)
CHANGE_RANGE = (2, 9)
TOTAL_RANGE = (1, 40)
HELDOUT_SHARE = 8
"""One combination of numbers in this many is kept for the held-out split."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


NAMES = _words(
    "Ada,Amir,Anna,Ben,Carl,Chen,Clara,Dana,Diego,Ella,Emil,Eva,Finn,Grace,Hana,Hugo,Ida,Ivan,"
    "Jack,Jana,Kim,Lena,Leo,Lily,Luca,Maya,Mia,Nina,Noah,Olga,Omar,Otto,Paul,Rosa,Ruth,Sami,"
    "Sara,Tara,Tom,Uma,Vera,Will,Yara,Zoe"
)
OBJECTS = _words(
    "apples,balls,beads,bells,books,boxes,buttons,cakes,candles,cards,chairs,coins,cups,eggs,"
    "hats,keys,lamps,lemons,maps,marbles,nuts,pears,pencils,pens,pins,plums,poems,rings,ropes,"
    "shells,stamps,stickers,stones,tickets,tiles,toys"
)
GAINS = _words(
    "adds,buys,collects,earns,finds,gets,is given,picks up,receives,takes in,wins,wins back"
)
LOSSES = _words(
    "breaks,donates,drops,gives away,hands out,loses,mails off,parts with,sells,swaps away,"
    "throws out"
)
LAYOUTS = (
    "{name} has {start} {thing}. {name} {one}, {two} and {three}. How many {thing} now?",
    "{name} holds {start} {thing}, then {one}, {two} and {three}. How many are there?",
    "{name} starts with {start} {thing}. First {name} {one}, next {two}, last {three}. How many?",
    "There are {start} {thing}. {name} {one}. Then {name} {two} and {three}. What is the count?",
    "How many {thing} does {name} have? It was {start}, but {name} {one}, {two} and {three}.",
)


@dataclass(frozen=True)
class Change:
    """One signed change of the quantity and the verb that tells it."""

    verb: str
    amount: int

    @property
    def phrase(self) -> str:
        """The change in words, such as `gives away 5`."""
        return f"{self.verb} {abs(self.amount)}"


@dataclass(frozen=True)
class WordProblem:
    """A quantity, three changes of it, and the words around them."""

    name: str
    thing: str
    layout: str
    start: int
    changes: tuple[Change, Change, Change]

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """The start and the three signed amounts: what decides the split."""
        one, two, three = (change.amount for change in self.changes)
        return self.start, one, two, three

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """The quantity at the start and after each change."""
        start, one, two, three = self.numbers
        return start, start + one, start + one + two, start + one + two + three

    @property
    def answer(self) -> int:
        """The quantity after all changes."""
        return self.totals[-1]

    @property
    def prompt(self) -> str:
        """The problem in words."""
        one, two, three = (change.phrase for change in self.changes)
        return self.layout.format(
            name=self.name, thing=self.thing, start=self.start, one=one, two=two, three=three
        )

    @property
    def annotation(self) -> str:
        """The worked answer in the annotation's style."""
        return worked(self.totals, [change.amount for change in self.changes])


def worked(totals: Sequence[int], amounts: Sequence[int]) -> str:
    """Write a worked answer from the quantity at the start and after each of three changes."""
    steps = [equation(*step) for step in zip(totals, amounts, totals[1:], strict=False)]
    return f"{steps[0]}. So {steps[1]}. So {steps[2]}. The answer is {totals[-1]}."


def equation(before: int, amount: int, after: int) -> str:
    """Write one step, such as `12 - 5 = 7`; whether it is right is the caller's affair.

    Args:
        before: The quantity before the change.
        amount: By how much it changes; below 0 takes away.
        after: The quantity after it.
    """
    return f"{before} {'+' if amount > 0 else '-'} {abs(amount)} = {after}"


def split_of(numbers: tuple[int, int, int, int]) -> Split:
    """Name the split that a combination of numbers belongs to, the same on every machine."""
    key = ",".join(map(str, numbers)).encode()
    return "heldout" if zlib.crc32(key) % HELDOUT_SHARE == 0 else "train"


def _draw(rng: random.Random) -> WordProblem | None:
    """Draw one problem, or nothing where a total leaves the range."""
    changes = []
    for _ in range(3):
        sign = rng.choice((1, -1))
        verb = rng.choice(GAINS if sign > 0 else LOSSES)
        changes.append(Change(verb, sign * rng.randint(*CHANGE_RANGE)))
    problem = WordProblem(
        name=rng.choice(NAMES),
        thing=rng.choice(OBJECTS),
        layout=rng.choice(LAYOUTS),
        start=rng.randint(*START_RANGE),
        changes=(changes[0], changes[1], changes[2]),
    )
    low, high = TOTAL_RANGE
    return problem if all(low <= total <= high for total in problem.totals) else None


def problems(rng: random.Random, split: Split) -> Iterator[WordProblem]:
    """Yield problems of one split without end; their prompts may repeat."""
    while True:
        problem = _draw(rng)
        if problem is not None and split_of(problem.numbers) == split:
            yield problem


def distinct_problems(seed: int, split: Split, count: int) -> list[WordProblem]:
    """Make problems of one split, no two with the same numbers.

    Args:
        seed: The seed of the generator; the same seed gives the same problems.
        split: Which split's combinations of numbers to use.
        count: How many problems to make.

    Returns:
        The problems in the order drawn.
    """
    stream = problems(random.Random(f"{split}-{seed}"), split)
    seen: set[tuple[int, int, int, int]] = set()

    def unseen() -> Iterator[WordProblem]:
        for problem in stream:
            if problem.numbers not in seen:
                seen.add(problem.numbers)
                yield problem

    return list(islice(unseen(), count))
