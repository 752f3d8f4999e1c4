"""The evaluations of a run in their order, each followed by the gate; beside the loop if it may."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Literal

from tspin.config import RunConfig
from tspin.errors import TspinError
from tspin.evaluations.places import Apart, apart
from tspin.evaluations.step import PolicyEvaluation
from tspin.processes.companion import Companion
from tspin.processes.launch import StoppedError
from tspin.records.estimate import read_estimates
from tspin.runs.best import Best
from tspin.runs.clock import Timed
from tspin.runs.drops import sampled_drops
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.history import in_vain
from tspin.runs.inputs import Data

__all__ = ["Evaluations", "evaluations"]

log = logging.getLogger(__name__)

_WORKER = "tspin.evaluations.worker"
_AGAIN = 0.05
"""Seconds after which an interruption is tried again where it came at a bad moment."""


class _Interruption(BaseException):
    """SIGTERM, on its way out of whatever the loop is doing.

    No `Exception`: libraries take those for failures of their own. transformers, loading a
    tokenizer, says of one that there is no tokenizer (`tokenization_auto.py` of 5.19).
    """


@contextmanager
def evaluations(
    config: RunConfig,
    data: Data,
    folder: RunFolder,
    *,
    kept: Callable[[], None] | None,
    timed: Timed,
) -> Iterator[Evaluations]:
    """Evaluate the policies of a run inside the block.

    Beside the loop, an evaluation ends with the block, however that ends. One that fails ends the
    block: as soon as the loop can be interrupted, with a checkpoint of its training, and with the
    error of the evaluation.

    Args:
        config: `system.evaluate_beside` says where.
        data: Of the run.
        folder: Of the run.
        kept: Called after the gate has looked at an iteration.
        timed: Called around each step of an evaluation that is not beside the loop.

    Raises:
        InputError: evaluations beside the loop are asked for and not possible here.
        TspinError: an evaluation failed.
        StoppedError: SIGTERM, while evaluations are beside the loop.
    """
    place = apart(config)
    queue = Evaluations(config, data, folder, place, kept=kept, timed=timed)
    if place is None:
        yield queue
        return
    log.info("policies are evaluated beside the iterations that follow")
    with place.taken(), queue.beside():
        yield queue


class Evaluations:
    """Evaluates policies one after another, and walks the gate over what they give."""

    def __init__(
        self,
        config: RunConfig,
        data: Data,
        folder: RunFolder,
        place: Apart | None,
        *,
        kept: Callable[[], None] | None,
        timed: Timed,
    ) -> None:
        """Nothing is evaluated yet.

        Args:
            config: Of the run.
            data: Of the run.
            folder: Of the run.
            place: Where evaluations compute beside the loop; None evaluates within it.
            kept: See `evaluations`.
            timed: See `evaluations`.
        """
        self._config, self._data, self._folder = config, data, folder
        self._place, self._kept, self._timed = place, kept, timed
        self._best: Best | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="evaluations")
        self._waiting: dict[int, Future[None]] = {}
        """By iteration; done ones stay until somebody asks."""
        self._running: Companion | None = None
        self._lock = threading.Lock()
        """Held while a process is started or ended: none may start once the block ends."""
        self._error: BaseException | None = None
        self._stopped: StoppedError | None = None
        """Once SIGTERM came to the loop, whoever sent it."""
        self._ended = False
        self._interrupts = False
        """Whether SIGTERM comes to the loop as an error."""

    def begin(self, policy: str, iteration: int) -> None:
        """Evaluate a policy: now, or beside what comes next.

        Args:
            policy: A model folder, or the name of the initial policy.
            iteration: That it ended; `BASE` for the initial policy.

        Raises:
            TspinError: the evaluation failed, or an earlier one did.
        """
        self._collect(wait=False)
        evaluation = self._evaluation(policy, iteration)
        # For what is in place already no process has to start.
        if evaluation and self._place and (self._waiting or not evaluation.made):
            self._waiting[iteration] = self._pool.submit(self._make, evaluation, iteration)
            return
        if evaluation:
            evaluation.make(self._timed)
        self._judge(iteration)

    def stop(self, *, before: Literal["generate", "train"]) -> bool:
        """Whether the gate stops the run before a step of its next iteration.

        A training waits for the evaluations that can stop the run. A generation does, too, where
        `system.speculate` is false; else it begins whatever an evaluation on its way may say, so
        that a run begins the same things on a fast machine and on a slow one.

        Args:
            before: The step.

        Raises:
            TspinError: an evaluation failed.
        """
        decisive = self._config.gate.margin is not None and any(
            number != BASE for number in self._waiting
        )
        if decisive and before == "generate" and self._config.system.speculate:
            return False
        self._collect(wait=decisive)
        return self._best is not None and self._best.stopped is not None

    def finish(self) -> None:
        """Wait for all evaluations.

        Raises:
            TspinError: an evaluation failed.
        """
        self._collect(wait=True)
        if self._best is not None and self._best.stopped:
            begun = in_vain(self._folder)
            log.warning("stopped: %s%s", self._best.stopped, f"; {begun}" if begun else "")

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Evaluations are processes beside the block; see `evaluations`."""
        try:
            with self._interruptible():
                yield
                self._raise()
        except BaseException:
            self._raise()
            raise

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        # Python delivers signals to the main thread only: elsewhere a failure waits for `stop`.
        main = threading.current_thread() is threading.main_thread()
        with ExitStack() as after:
            if main:
                before = signal.signal(signal.SIGTERM, self._interrupt)
                after.callback(signal.signal, signal.SIGTERM, before)
                self._interrupts = True
            after.callback(self._end)
            yield

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._ended:
            return
        self._stopped = StoppedError("stopped by SIGTERM; run again to continue")
        if _starts_a_thread(frame):
            # The pool would know nothing of the thread, and Python wait for it for ever at its end.
            again = threading.Timer(_AGAIN, self._interrupt_again)
            again.daemon = True
            again.start()
            return
        raise _Interruption

    def _raise(self) -> None:
        """What ended an evaluation, or else the loop, also where somebody swallowed it."""
        for error in (self._error, self._stopped):
            if error is not None:
                raise error from None

    def _interrupt_again(self) -> None:
        with self._lock:
            if not self._ended:
                signal.raise_signal(signal.SIGTERM)

    def _end(self) -> None:
        """No evaluation goes on after this."""
        self._ended = True  # First of all: from here on no signal interrupts.
        with self._lock:
            running = self._running
        if running is not None:
            running.end()
        self._pool.shutdown(cancel_futures=True)

    def _evaluation(self, policy: str, iteration: int) -> PolicyEvaluation | None:
        if self._data.heldout is None:
            return None
        return PolicyEvaluation(
            config=self._config, heldout=self._data.heldout, policy=policy, iteration=iteration
        )

    def _make(self, evaluation: PolicyEvaluation, iteration: int) -> None:
        """In the thread of the queue: one evaluation, and the gate."""
        if self._error is not None:
            return
        try:
            self._run(evaluation)
            self._judge(iteration)
        except BaseException as error:
            if not self._ended:
                self._error = error
                if self._interrupts:
                    # A training notes it and saves a checkpoint, all else is interrupted. Python
                    # knows of it when the call returns, so that none comes after `_end`.
                    signal.raise_signal(signal.SIGTERM)
            raise

    def _run(self, evaluation: PolicyEvaluation) -> None:
        environment = {} if self._place is None else self._place.evaluations
        with self._lock:
            if self._ended:
                raise TspinError("the run has ended")
            self._running = Companion(
                _WORKER, evaluation.model_dump_json(), kind="evaluation", environment=environment
            )
        try:
            self._running.wait()
        finally:
            self._running = None

    def _collect(self, *, wait: bool) -> None:
        """Take what is done off the list, and all of it where that is waited for."""
        for number, evaluation in list(self._waiting.items()):
            if wait or evaluation.done():
                evaluation.result()
                del self._waiting[number]
        self._raise()

    def _judge(self, iteration: int) -> None:
        """Compare a policy that is evaluated with the best so far."""
        config, folder = self._config, self._folder
        if self._best is None:
            self._best = Best.first(config, folder, iteration)
            return
        self._best = self._best.after(config, folder, iteration)
        self._best.write(config, folder)
        if self._kept is not None:
            self._kept()
        if config.data.heldout is not None:
            numbers = range(BASE, iteration + 1)
            metrics = [read_estimates(folder.iteration(number).metrics) for number in numbers]
            for warning in sampled_drops(metrics, config.train.guards.sampled_drop):
                log.warning("%s", warning)


def _starts_a_thread(frame: FrameType | None) -> bool:
    """Whether a stack is inside a pool's `submit`, as while a model is loaded."""
    while frame is not None:
        if frame.f_code is ThreadPoolExecutor.submit.__code__:
            return True
        frame = frame.f_back
    return False
