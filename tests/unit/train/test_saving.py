"""When a checkpoint is due, and what is copied."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from tests.checkpoint_folders import KEY, write_checkpoint
from tspin.checkpoints.folder import Checkpoints
from tspin.checkpoints.mirror import CheckpointMirror
from tspin.processes.launch import StoppedError, Termination
from tspin.train.saving import CheckpointCallback


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", KEY)


def test_a_checkpoint_is_due_by_the_clock(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((1000.0, 1119.0, 1120.0, 1120.0, 1239.0, 1240.0, 1240.0))
    monkeypatch.setattr("tspin.train.saving.monotonic", lambda: next(clock))
    callback = CheckpointCallback(checkpoints, Termination(), minutes=2)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    due = []
    for step in (1, 2, 3, 4):
        state, control = TrainerState(global_step=step), TrainerControl()
        callback.on_step_end(args, state, control)
        due.append(control.should_save)
        assert not control.should_training_stop
        if control.should_save:
            with checkpoints.held():
                write_checkpoint(checkpoints.path, step)
                callback.on_save(args, state, control)
    assert due == [False, True, False, True]


def test_callback_asks_for_a_last_checkpoint(checkpoints: Checkpoints, tmp_path: Path) -> None:
    termination = Termination()
    callback = CheckpointCallback(checkpoints, termination, minutes=None)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state, control = TrainerState(global_step=7), TrainerControl()
    callback.on_step_end(args, state, control)
    assert not (control.should_save or control.should_training_stop)
    termination.requested = True
    callback.on_step_end(args, state, control)
    assert control.should_save
    assert control.should_training_stop
    assert termination.stopped_at == 7
    assert StoppedError.exit_code == 143
    with checkpoints.held():
        write_checkpoint(checkpoints.path, 7)
        callback.on_save(args, state, control)
        assert checkpoints.last() == checkpoints.path / "checkpoint-7"


def test_a_copy_that_takes_long_is_waited_for_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = CheckpointMirror(str(tmp_path / "store"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", KEY, mirror)
    go_on = threading.Event()
    upload = mirror._store.upload

    def slow_upload(path: Path, key: str) -> None:
        assert go_on.wait(60)
        upload(path, key)

    monkeypatch.setattr(mirror._store, "upload", slow_upload)
    termination = Termination()
    callback = CheckpointCallback(checkpoints, termination, minutes=None)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with checkpoints.held():
        for step in (1, 2):
            write_checkpoint(checkpoints.path, step)
            callback.on_save(args, TrainerState(global_step=step), TrainerControl())
        # The first is still being copied, so it stays; the second is not copied.
        assert sorted(path.name for path in checkpoints.path.glob("checkpoint-*")) == [
            "checkpoint-1",
            "checkpoint-2",
        ]
        assert "step 2 is on this disk only: the one of step 1 is still being copied" in caplog.text
        go_on.set()
        # The last one before the machine goes is copied, whatever that takes.
        termination.stopped_at = 3
        write_checkpoint(checkpoints.path, 3)
        callback.on_save(args, TrainerState(global_step=3), TrainerControl())
    assert mirror.fetch(tmp_path / "there", than=0) == 3
    left = {path.name for path in checkpoints.path.glob("checkpoint-*")}
    assert "checkpoint-3" in left
    assert "checkpoint-2" not in left
