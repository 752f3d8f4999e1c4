"""Questions on the held-out problems for tasks of lm-evaluation-harness (`tasks/*.yaml`)."""

import random
from typing import Any

from tspin.demo.problems import WordProblem, worked

__all__ = ["question"]


def question(problem: WordProblem, rng: random.Random) -> dict[str, Any]:
    """Make a question from a problem.

    Args:
        problem: What is asked.
        rng: Decides the mistakes, and in which order the choices stand.

    Returns:
        `prompt`; `answer`, the number alone; `choices`, worked answers of which one is right and
        each of the others goes wrong by one in another step; `right`, its place among them.
    """
    choices = [problem.annotation, *(_with_mistake(problem, step, rng) for step in range(3))]
    rng.shuffle(choices)
    return {
        "prompt": problem.prompt,
        "answer": str(problem.answer),
        "choices": choices,
        "right": choices.index(problem.annotation),
    }


def _with_mistake(problem: WordProblem, step: int, rng: random.Random) -> str:
    wrong = rng.choice((-1, 1))
    totals = [total + (wrong if at > step else 0) for at, total in enumerate(problem.totals)]
    return worked(totals, [change.amount for change in problem.changes])
