"""The clock of a step: phases that never overlap, added up over kills.

A step is timed from its call, or from the start of its process where that was started for it. At
each moment one phase runs, so that the phases add up to the whole.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path

from tspin.errors import InputError
from tspin.files import write_json
from tspin.progress.status import publish
from tspin.records.manifest import Manifest
from tspin.records.process_start import take_process_start
from tspin.records.seconds import WORK, Phase, StepName, StepSeconds, read_seconds, seconds_path

__all__ = [
    "StepClock",
    "begin_work",
    "kept",
    "phase",
    "saved_now_and_then",
    "timed_step",
    "working",
]

log = logging.getLogger(__name__)

_SAVED = 5.0
"""Seconds between two writes: what a kill may lose."""


class StepClock:
    """Counts each second of a step once, for the phase that runs."""

    def __init__(self, step: StepName, began: float | None = None) -> None:
        """Count from now on.

        Args:
            step: Whose phases these are.
            began: When the step began, as `time.monotonic` of this machine; None is now. What lies
                between are the imports.
        """
        self._step, self._since = step, time.monotonic()
        self.began = self._since if began is None else min(began, self._since)
        self._before = defaultdict[Phase, float](float, imports=self._since - self.began)
        self._after = defaultdict[Phase, float](float)
        self._phase: Phase = "checks"
        self._works = False
        self._lock = threading.Lock()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time of a block for one phase, but for that of phases inside it."""
        outer = self._turn(name)
        try:
            yield
        finally:
            self._turn(outer)

    def begin_work(self) -> Phase:
        """Count what follows for the step's own work; returns the phase until now."""
        outer = self._turn(WORK[self._step])
        self._works = True
        return outer

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time of a block for the step's own work."""
        outer = self.begin_work()
        try:
            yield
        finally:
            self._turn(outer)

    @contextmanager
    def kept(self, out: Path, manifest: Manifest) -> Iterator[None]:
        """Keep the times beside an output that is made inside the block.

        They add to those of a start that was killed at the same work, and are told when the block
        ends well. Where it refuses its inputs nothing is left.

        Args:
            out: The output.
            manifest: Says what work it is.
        """
        path, earlier = seconds_path(out), read_seconds(out)
        if earlier is not None and (earlier.finished or earlier.work != manifest.key):
            earlier = None

        def save(*, finished: bool = False) -> StepSeconds:
            seconds = self._seconds(manifest.key, earlier, finished=finished)
            publish(phases=seconds.phases)
            with suppress(OSError):  # No step fails because its time cannot be written down.
                write_json(path, seconds.model_dump(mode="json"))
            return seconds

        try:
            with saved_now_and_then(save):
                yield
        except InputError:
            if earlier is None:
                path.unlink(missing_ok=True)
            raise
        log.info("%s", save(finished=True))

    def _turn(self, name: Phase) -> Phase:
        """Count the phase until now, and begin another."""
        with self._lock:
            outer = self._phase
            self._settle()
            self._phase = name
            return outer

    def _settle(self) -> None:
        now = time.monotonic()
        (self._after if self._works else self._before)[self._phase] += now - self._since
        self._since = now

    def _seconds(self, work: str, earlier: StepSeconds | None, *, finished: bool) -> StepSeconds:
        with self._lock:
            self._settle()
            seconds = StepSeconds(
                step=self._step,
                work=work,
                before=self._before,
                after=self._after,
                finished=finished,
            )
        return seconds if earlier is None else seconds.with_earlier(earlier)


@contextmanager
def saved_now_and_then(save: Callable[[], object]) -> Iterator[None]:
    """Call a function every few seconds while the block runs, and at its end, however it ends."""
    done = threading.Event()

    def save_until_done() -> None:
        while not done.wait(_SAVED):
            save()

    saver = threading.Thread(target=save_until_done, daemon=True)
    saver.start()
    try:
        yield
    finally:
        done.set()
        saver.join()
        save()


_clock: ContextVar[StepClock | None] = ContextVar("clock", default=None)


@contextmanager
def timed_step(step: StepName, *, began: float | None = None) -> Iterator[StepClock]:
    """Time a step; `phase` and the other functions of this module are about it inside the block.

    Args:
        step: Its name.
        began: See `StepClock`.
    """
    process = take_process_start()
    clock = StepClock(step, process if began is None else began)
    token = _clock.set(clock)
    try:
        yield clock
    finally:
        _clock.reset(token)


def phase(name: Phase) -> AbstractContextManager[None]:
    """Count the time of a block for one phase of the step that runs, if one does."""
    clock = _clock.get()
    return nullcontext() if clock is None else clock.phase(name)


def working() -> AbstractContextManager[None]:
    """Count the time of a block for the own work of the step that runs, if one does."""
    clock = _clock.get()
    return nullcontext() if clock is None else clock.working()


def begin_work() -> None:
    """Count what follows for the own work of the step that runs, until the phase around it ends."""
    clock = _clock.get()
    if clock is not None:
        clock.begin_work()


def kept(out: Path, manifest: Manifest) -> AbstractContextManager[None]:
    """See `StepClock.kept`; nothing where no step is timed."""
    clock = _clock.get()
    return nullcontext() if clock is None else clock.kept(out, manifest)
