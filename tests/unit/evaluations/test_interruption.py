"""SIGTERM while evaluations are beside the loop: an error, but never in the midst of a pool."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _threads_queues
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.evaluations.queue import Evaluations
from tspin.processes.launch import StoppedError
from tspin.runs.folder import RunFolder
from tspin.runs.inputs import Data

CONFIG = RunConfig.model_validate(
    {"run_dir": "unused", "model": {"path": "m"}, "data": {"annotated": "a.jsonl"}}
)


@pytest.fixture
def queue(tmp_path: Path) -> Evaluations:
    data = Data(annotated=tmp_path / "a.jsonl", heldout=None)
    folder = RunFolder(tmp_path)
    return Evaluations(CONFIG, data, folder, None, kept=None, timed=lambda name: nullcontext())


def test_a_pool_that_starts_a_thread_knows_of_it_before_the_error_comes(
    queue: Evaluations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python waits at its end for every thread, and only a thread that is known ever ends."""
    start, came = threading.Thread.start, threading.Event()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if not came.is_set() and thread.name.startswith("loading"):
            came.set()
            signal.raise_signal(signal.SIGTERM)  # As from anywhere, while `start` waits.

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    pool = ThreadPoolExecutor(1, "loading")
    try:
        with pytest.raises(StoppedError), queue.beside():
            pool.submit(int).result()
            threading.Event().wait(60)
        assert came.is_set()
        assert all(thread in _threads_queues for thread in pool._threads)
        assert pool._threads
    finally:
        pool._work_queue.put(None)  # For a thread that is not known, so that this process ends.
        pool.shutdown()


def test_elsewhere_it_comes_at_once(queue: Evaluations) -> None:
    reached = False
    with pytest.raises(StoppedError), queue.beside():
        signal.raise_signal(signal.SIGTERM)
        reached = True
    assert not reached


def test_no_library_takes_it_for_a_failure_of_its_own(queue: Evaluations) -> None:
    with pytest.raises(StoppedError), queue.beside():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:  # noqa: BLE001  (as libraries do)
            raise InputError("there is no tokenizer") from None


def test_who_swallows_it_delays_it_to_the_next_look(queue: Evaluations) -> None:
    reached = False
    with pytest.raises(StoppedError), queue.beside():
        with suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        queue.stop(before="train")
        reached = True
    assert not reached


def test_who_swallows_it_at_the_end_does_not_undo_it(queue: Evaluations) -> None:
    with pytest.raises(StoppedError), queue.beside(), suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)


def test_after_the_block_sigterm_is_what_it_was_before(queue: Evaluations) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with queue.beside():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
