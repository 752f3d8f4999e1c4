"""The engine starts while many prompts are still tokenised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager

from tspin.engines import Engine
from tspin.generate.plan import ResponsePlan
from tspin.records.step_clock import phase

__all__ = ["planned"]

ALONE = 2.0
"""Seconds that prompts have to be tokenised before an engine is started beside them: what is wrong
with a few thousand is told at once."""


@contextmanager
def planned(
    plan: Callable[[], ResponsePlan], open_engine: Callable[[], Engine], *, beside: bool
) -> Iterator[tuple[ResponsePlan, Callable[[], Engine]]]:
    """A plan, and what gives its engine: one that has been started meanwhile, or starts it.

    Args:
        plan: Tokenises the prompts, in a thread of its own.
        open_engine: Starts the engine, in this thread.
        beside: Whether the engine may be started before it is known what is left to ask.

    Raises:
        InputError: what either of them raises.
        TspinError: likewise.
    """
    with ThreadPoolExecutor(1, "tokenising") as pool:
        tokenised = pool.submit(plan)
        with phase("tokenising"):
            wait([tokenised], timeout=ALONE if beside else None)
        if tokenised.done():
            yield tokenised.result(), open_engine
            return
        with phase("loading"):
            engine = open_engine()
        with closing(engine):
            with phase("tokenising"):
                made = tokenised.result()
            yield made, lambda: engine
