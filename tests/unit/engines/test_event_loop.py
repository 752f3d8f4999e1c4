"""Coroutines beside a thread that waits for them, and their end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tspin.engines.event_loop import EventLoop

NAME = "the loop of this test"


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop(NAME)
    yield loop
    loop.close()
    assert NAME not in [thread.name for thread in threading.enumerate()]


def test_coroutines_run_side_by_side_in_the_thread_of_the_loop(loop: EventLoop) -> None:
    threads: list[str] = []
    met = asyncio.Barrier(2)

    async def meet() -> None:
        await met.wait()  # For ever, unless the other one comes as well.
        threads.append(threading.current_thread().name)

    for work in [loop.start(meet()), loop.start(meet())]:
        work.result()
    assert threads == [NAME, NAME]


def test_an_error_comes_to_whoever_waits(loop: EventLoop) -> None:
    async def fail() -> None:
        raise ValueError("as planned")

    with pytest.raises(ValueError, match="as planned"):
        loop.start(fail()).result()


def test_what_runs_has_ended_when_it_is_cancelled(loop: EventLoop) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def never() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)  # An end that takes its time.
            ended.set()

    work = loop.start(never())
    assert begun.wait()
    loop.cancel_all()
    assert ended.is_set()
    assert work.cancelled()
