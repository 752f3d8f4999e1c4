"""The pre-training corpus of the demo's base model: mixed wordings, never the annotation's.

The base must be able to do the sums and yet have everything to learn about how the annotator
writes them. So its corpus answers the same kind of problem in many other wordings, with slips
in the arithmetic, steps left out and bare answers.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tspin.demo.problems import WordProblem, equation, problems

SLIP_RATE = 0.04
"""How often a step of the corpus comes out wrong; later steps carry the slip on."""

SLIPS = (-10, -2, -1, 1, 2, 10)


@dataclass(frozen=True)
class Exercise:
    """One prompt of the corpus and one answer to it."""

    prompt: str
    response: str


Wording = Callable[[WordProblem, Sequence[int], random.Random], str]
"""Write an answer from a problem and its (perhaps slipped) totals."""


def _steps(problem: WordProblem, totals: Sequence[int]) -> list[str]:
    return [
        equation(totals[i], change.amount, totals[i + 1])
        for i, change in enumerate(problem.changes)
    ]


def _list_of_steps(problem: WordProblem, totals: Sequence[int], rng: random.Random) -> str:
    separator = rng.choice((", ", "; ", ", then ", " and ", ". Then ", ". Next "))
    end = rng.choice((".", f". Result: {totals[-1]}.", f". {problem.name} has {totals[-1]}."))
    return separator.join(_steps(problem, totals)) + end


def _sentences(problem: WordProblem, totals: Sequence[int], rng: random.Random) -> str:
    first, second, third = _steps(problem, totals)
    lead, follow, last = rng.choice(
        (("", "", ""), ("First ", "Then ", "Last "), ("", "Now ", "Now "), ("We get ", "", "And "))
    )
    end = rng.choice(("", f" There are {totals[-1]}.", f" That makes {totals[-1]}."))
    return f"{lead}{first}. {follow}{second}. {last}{third}.{end}"


def _in_words(problem: WordProblem, totals: Sequence[int], rng: random.Random) -> str:
    join = rng.choice((", ", ". ", "; "))
    parts = [
        f"{abs(change.amount)} {'more' if change.amount > 0 else 'less'} makes {total}"
        for change, total in zip(problem.changes, totals[1:], strict=True)
    ]
    return f"From {totals[0]}: {join.join(parts)}."


def _running_totals(problem: WordProblem, totals: Sequence[int], rng: random.Random) -> str:
    del problem
    return rng.choice((", ", " > ", " then ")).join(map(str, totals)) + "."


def _skipped(problem: WordProblem, totals: Sequence[int], rng: random.Random) -> str:
    steps = _steps(problem, totals)
    kept = sorted(rng.sample(range(3), rng.choice((1, 2))))
    lead = rng.choice(("Now", "It is", "Has"))
    return ". ".join(steps[i] for i in kept) + f". {lead} {totals[-1]}."


def _bare(problem: WordProblem, totals: Sequence[int], rng: random.Random) -> str:
    form = rng.choice(("{n}", "{n}.", "{n} {thing}.", "{name} has {n} {thing}.", "It is {n}."))
    return form.format(n=totals[-1], thing=problem.thing, name=problem.name)


WORDINGS: dict[Wording, int] = {
    _list_of_steps: 8,
    _sentences: 6,
    _in_words: 2,
    _running_totals: 2,
    _skipped: 2,
    _bare: 2,
}
"""The wordings and their weights."""


def slipped_totals(problem: WordProblem, rng: random.Random, rate: float = SLIP_RATE) -> list[int]:
    """Work the problem out as a careless writer would.

    Args:
        problem: The problem.
        rng: The source of chance.
        rate: How often one step comes out wrong.

    Returns:
        The start and the total after each step, none below zero.
    """
    totals = [problem.start]
    for change in problem.changes:
        slip = rng.choice(SLIPS) if rng.random() < rate else 0
        totals.append(max(0, totals[-1] + change.amount + slip))
    return totals


def corpus(seed: int) -> Iterator[Exercise]:
    """Yield the corpus, without end, from problems whose numbers are never held out."""
    rng = random.Random(f"corpus-{seed}")
    wordings, weights = list(WORDINGS), list(WORDINGS.values())
    for problem in problems(rng, "train"):
        wording = rng.choices(wordings, weights)[0]
        yield Exercise(problem.prompt, wording(problem, slipped_totals(problem, rng), rng))


def corpus_head(seed: int, count: int) -> list[Exercise]:
    """Take the first examples of the corpus."""
    return list(islice(corpus(seed), count))
