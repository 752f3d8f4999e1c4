"""What watches a training: train_log.jsonl and a progress bar; trackers are others."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import IO, Any

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tspin.files import atomic_file
from tspin.records.training_log import step_rows

__all__ = ["TrainLog", "TrainingProgress"]

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
        console = Console(stderr=True)
        if console.is_terminal:
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
