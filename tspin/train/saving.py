"""A training's checkpoints: what is in them, when it is time for one, and one on being stopped."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from time import monotonic
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tspin.checkpoints.folder import Checkpoints
from tspin.checkpoints.state import (
    load_random_state,
    load_state,
    save_random_state,
    save_state,
)
from tspin.models.policy import Policy
from tspin.processes.group import any_process, wait_for_all
from tspin.processes.launch import Termination
from tspin.records.step_clock import phase

__all__ = ["CheckpointCallback", "CheckpointTrainer"]

log = logging.getLogger(__name__)


class CheckpointCallback(TrainerCallback):
    """Marks each checkpoint that the trainer has written, and stops after one on SIGTERM.

    The trainer itself counts steps between checkpoints; this counts minutes as well. Which step
    that is decides nothing but what a kill costs: a continuation ends with the same bytes.
    """

    def __init__(
        self, checkpoints: Checkpoints, termination: Termination, minutes: float | None
    ) -> None:
        """Count from now on.

        Args:
            checkpoints: Where they are.
            termination: Whether somebody asked this training to stop.
            minutes: Between two checkpoints at most; None leaves it to the trainer's steps.
        """
        self._checkpoints = checkpoints
        self._termination = termination
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._saved = monotonic()
        self._mirrored: int | None = None

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the checkpoint once every process has written its part."""
        with phase("checkpointing"):
            self._mark(args, state.global_step)

    def _mark(self, args: TrainingArguments, step: int) -> None:
        self._checkpoints.sync(step, args.process_index)
        wait_for_all()
        # All processes copy the same checkpoints: of one that only some have copied nobody could
        # go on. So where one is still at the last, none begins the next.
        mirror = self._checkpoints.mirror
        (busy,) = any_process(args.device, mirror is not None and mirror.busy)
        if args.should_save:
            self._checkpoints.finish(step, kept=self._mirrored if busy else None)
        self._copy(step, busy=busy)
        self._saved = monotonic()

    def _copy(self, step: int, *, busy: bool) -> None:
        mirror = self._checkpoints.mirror
        if mirror is None:
            return
        last = self._termination.stopped_at is not None
        if busy and not last:
            log.warning(
                "the checkpoint of step %d is on this disk only: the one of step %s is still being "
                "copied; checkpoints come faster than the store takes them",
                step,
                self._mirrored,
            )
            return
        wait_for_all()  # What belongs to nobody is the first process's, which has just written it.
        self._mirrored = step
        mirror.start(self._checkpoints.folder(step))
        if last:
            mirror.settle()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint where it is time, or somebody asked this training to stop."""
        due = monotonic() - self._saved >= self._seconds
        stop, due = any_process(args.device, self._termination.requested, due)
        control.should_save |= due
        if stop:
            log.warning("SIGTERM: saving a checkpoint at step %d", state.global_step)
            self._termination.stopped_at = state.global_step
            control.should_save = control.should_training_stop = True


class CheckpointTrainer(Trainer):
    """transformers' trainer with checkpoints without pickles, of sharded policies too.

    See `tspin.checkpoints.state`.
    """

    _policy: Policy
    """Without accelerate's wrappers."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with phase("checkpointing"):
            super()._save_checkpoint(model, trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """A checkpoint has the weights in its state, below."""
        if not _internal_call:
            super().save_model(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_state(Path(output_dir), *self._moving_parts())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_state(Path(checkpoint), *self._moving_parts())

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        pass  # With the optimiser, once that is there.

    def _save_rng_state(self, output_dir: str) -> None:
        save_random_state(Path(output_dir), self.args.process_index)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_random_state(Path(checkpoint), self.args.process_index)

    def _moving_parts(self) -> tuple[nn.Module, Optimizer, LRScheduler]:
        """What training changes, without accelerate's wrappers."""
        optimizer, schedule = cast(Optimizer, self.optimizer), cast(LRScheduler, self.lr_scheduler)
        return self._policy, getattr(optimizer, "optimizer", optimizer), schedule
