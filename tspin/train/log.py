"""What watches a training: train_log.jsonl, a progress bar, and trackers, which cannot end it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import orjson
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    DVCLiveCallback,
    KubeflowCallback,
    TensorBoardCallback,
    is_kubeflow_available,
)

from tspin.config import RunConfig
from tspin.errors import InputError, redacted
from tspin.files import atomic_file
from tspin.progress.console import draws_bars, stderr_console
from tspin.progress.display import seconds_left
from tspin.progress.status import publish
from tspin.records.training_log import SPEED, step_rows
from tspin.tracking.trackers import DVCLIVE, KUBEFLOW, TENSORBOARD, callback_names

__all__ = ["TrainLog", "TrainingNote", "TrainingProgress", "tracker_callbacks"]

log = logging.getLogger(__name__)


_PLAIN_LINES = 10


class TrainLog(TrainerCallback):
    """Writes a row for each step as it happens; the values are those of the trainer's history.

    A resumed training starts the file again with the history up to its checkpoint, so that it
    ends with the same bytes as one that never stopped. No row carries a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Put the steps before the checkpoint in place."""
        if not state.is_world_process_zero:
            return
        with atomic_file(self._path) as file:
            file.writelines(_line(row) for row in step_rows(state.log_history))
        self._file = self._path.open("ab")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Append the step that was just logged."""
        if self._file is not None:
            self._file.writelines(_line(row) for row in step_rows(state.log_history[-1:]))
            self._file.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Get the file to the disk."""
        self.close()

    def close(self) -> None:
        """The same, also where training ended in an error."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row) + b"\n"


class TrainingProgress(TrainerCallback):
    """A progress bar on a terminal, a few plain lines elsewhere."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say how much there is to do."""
        if not state.is_world_process_zero:
            return
        if state.global_step:
            log.info("training continues after step %d of %d", state.global_step, state.max_steps)
        console = stderr_console()
        if draws_bars(console):
            shown = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*shown, TextColumn("{task.fields[values]}"), console=console)
            self._bar.add_task("train", total=state.max_steps, values="")
            self._bar.start()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move on by one step."""
        row = state.log_history[-1]
        if "loss" not in row or not state.is_world_process_zero:
            return
        known = {"loss": row["loss"], "accuracy": row.get("rewards/accuracies")}
        values = ", ".join(
            f"{name} {value:.4g}" for name, value in known.items() if value is not None
        )
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=state.global_step, values=values)
        elif state.global_step % max(1, state.max_steps // _PLAIN_LINES) == 0:
            log.info("step %d of %d: %s", state.global_step, state.max_steps, values)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave the finished bar on the screen."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, also where training ended in an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class TrainingNote(TrainerCallback):
    """Tells the note of this step what the log has, and its speeds (`tspin.progress.status`)."""

    def __init__(self, checkpoint: Path | None) -> None:
        """Nothing is told yet.

        Args:
            checkpoint: That the training continues from; None of a new one.
        """
        self._checkpoint = checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say where the training begins: of the seconds that a kill costs none are lost yet."""
        self._from, self._began = state.global_step, time.monotonic()
        saved = time.time() if self._checkpoint is None else self._checkpoint.stat().st_mtime
        publish(step_number=state.global_step, steps=state.max_steps, checkpoint_time=saved)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Tell the step that was just logged."""
        row = state.log_history[-1]
        if "loss" not in row or not state.is_world_process_zero:
            return
        made, rest = state.global_step - self._from, state.max_steps - state.global_step
        publish(
            **{name: value for name, value in row.items() if name != "step"},
            step_number=row["step"],
            tokens_per_second=row.get(f"{SPEED}tokens_per_second"),
            seconds_left=seconds_left(time.monotonic() - self._began, made, rest),
        )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Tell that there is a checkpoint; `CheckpointCallback` has marked it as whole by now."""
        publish(checkpoint_time=time.time())


def tracker_callbacks(config: RunConfig, folder: Path, *, first: bool) -> list[TrainerCallback]:
    """The callbacks that `system.report_to` asks for, and the one that a TrainJob asks for.

    In a TrainJob of a cluster with a status server (Kubeflow Trainer's feature gate
    `TrainJobRuntimeStatus`) the environment says where that is: progress, time left and metrics
    then stand in the TrainJob's status.

    Args:
        config: `system.report_to` is used.
        folder: Where those that write files put them.
        first: Whether this is the first process of the training; the others tell nothing.

    Raises:
        InputError: a tracker is not installed.
    """
    if not first:
        return []
    names = callback_names(config)
    in_trainjob = is_kubeflow_available()  # type: ignore[no-untyped-call]
    if in_trainjob and KUBEFLOW not in names:
        names.append(KUBEFLOW)
    callbacks = {name: _made(name, folder) for name in names}
    if DVCLIVE in config.system.report_to:
        callbacks[DVCLIVE] = _dvclive(folder)
    return [_Trackers(callbacks)] if callbacks else []


class _Trackers(TrainerCallback):
    """All of them; one is left out from its first error on, as it is no part of the work."""

    def __init__(self, callbacks: Mapping[str, TrainerCallback]) -> None:
        self._working = dict(callbacks)
        # The base class has a method for each event, so that none comes to `__getattr__`.
        for event in (event for event in dir(TrainerCallback) if event.startswith("on_")):
            setattr(self, event, partial(self._call, event))

    def _call(self, event: str, *args: Any, **named: Any) -> None:
        for name, callback in list(self._working.items()):
            try:
                getattr(callback, event)(*args, **named)
            except Exception as error:  # noqa: BLE001  (whatever it is, the training goes on)
                del self._working[name]
                log.warning(
                    "%s failed and gets nothing more of this training, which goes on: %s",
                    name,
                    redacted(f"{type(error).__name__}: {error}")[:300],
                )


class _Kubeflow(KubeflowCallback):
    """Its time left counts the steps since a checkpoint as if they had been made from the start.

    transformers 5.19 divides the seconds since this process began by all steps of the training: a
    training that continues at step 900 of 1000 would be over in no time (integration_utils.py,
    `KubeflowCallback.on_step_end`). The beginning is set back by what the steps before took.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any
    ) -> None:
        super().on_train_begin(args, state, control, **named)  # type: ignore[no-untyped-call]
        self._from, self._at = state.global_step, time.time()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any
    ) -> None:
        made = state.global_step - self._from
        if made > 0:
            now = time.time()
            self._start_time = now - (now - self._at) / made * state.global_step
        super().on_step_end(args, state, control, **named)  # type: ignore[no-untyped-call]


def _made(name: str, folder: Path) -> TrainerCallback:
    try:
        if name == KUBEFLOW:
            return _Kubeflow()  # type: ignore[no-untyped-call]
        if name == TENSORBOARD and "TENSORBOARD_LOGGING_DIR" not in os.environ:
            return _tensorboard(folder)
        callback: TrainerCallback = INTEGRATION_TO_CALLBACK[name]()
        return callback
    except (ImportError, RuntimeError) as error:
        raise InputError(f"system.report_to names {name!r}: {error}") from None


def _tensorboard(folder: Path) -> TrainerCallback:
    """Writes below `folder`: its own choice is the folder of checkpoints, which is deleted."""
    module = "torch.utils.tensorboard" if find_spec("tensorboard") else "tensorboardX"
    writer = import_module(module).SummaryWriter(log_dir=str(folder / TENSORBOARD))
    return TensorBoardCallback(writer)  # type: ignore[no-untyped-call]


def _dvclive(folder: Path) -> TrainerCallback:
    """Writes below `folder`; a resumed training goes on in its files. No experiment is saved."""
    from dvclive.live import Live

    live = Live(str(folder / DVCLIVE), resume=True, report=None, save_dvc_exp=False, dvcyaml=None)
    return DVCLiveCallback(live)
