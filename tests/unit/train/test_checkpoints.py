from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from tspin.errors import TspinError
from tspin.train.checkpoints import CheckpointCallback, CheckpointMirror, Checkpoints
from tspin.train.launch import StoppedError, Termination

KEY = {"inputs": {"triplets": "abc"}, "parameters": {"learning_rate": 1e-6}}


def write_checkpoint(folder: Path, step: int) -> Path:
    """What transformers leaves, before it is marked."""
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "training_args.bin"):
        (made / name).write_bytes(b"bytes")
    return made


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", KEY)


def test_only_whole_checkpoints_of_the_same_work_count(checkpoints: Checkpoints) -> None:
    with checkpoints.held():
        assert checkpoints.last() is None
        write_checkpoint(checkpoints.path, 9)
        checkpoints.finish(9)
        write_checkpoint(checkpoints.path, 10)
        assert checkpoints.last() == checkpoints.path / "checkpoint-9"
    with Checkpoints(checkpoints.path, KEY).held():
        assert not (checkpoints.path / "checkpoint-10").exists()
        assert checkpoints.last() == checkpoints.path / "checkpoint-9"
    changed = KEY | {"parameters": {"learning_rate": 2e-6}}
    (checkpoints.path / "reference.safetensors").write_bytes(b"has a key of its own")
    other = Checkpoints(checkpoints.path, changed)
    with other.held():
        assert other.last() is None
        assert (checkpoints.path / "reference.safetensors").exists()
    with checkpoints.held():
        assert checkpoints.last() is None


def test_finishing_drops_older_ones_and_pickled_arguments(checkpoints: Checkpoints) -> None:
    with checkpoints.held():
        for step in (9, 10):
            write_checkpoint(checkpoints.path, step)
            checkpoints.finish(step)
    made = sorted(path.name for path in checkpoints.path.glob("checkpoint-*"))
    assert made == ["checkpoint-10"]  # by number, not by name
    files = sorted(path.name for path in (checkpoints.path / "checkpoint-10").iterdir())
    assert files == ["complete.json", "model.safetensors", "optimizer.pt"]


def test_what_a_training_was_begun_with_moves_with_its_checkpoint(tmp_path: Path) -> None:
    mirror = CheckpointMirror(str(tmp_path / "store"))
    lost, moved = (Checkpoints(tmp_path / name, KEY, mirror) for name in ("lost", "moved"))
    with lost.held():
        lost.begun.write_text("two threads")
        write_checkpoint(lost.path, 2)
        lost.finish(2)
    with moved.held():
        assert moved.begun.read_text() == "two threads"


def test_older_checkpoint_stays_until_the_next_is_whole(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    with checkpoints.held():
        write_checkpoint(checkpoints.path, 2)
        checkpoints.finish(2)
        write_checkpoint(checkpoints.path, 4)
        # As if killed as soon as anything is removed.
        monkeypatch.setattr("tspin.train.checkpoints.remove", _killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.finish(4)
        assert checkpoints.last() == checkpoints.path / "checkpoint-4"


def _killed(path: Path) -> None:
    raise KeyboardInterrupt


def test_one_writer(checkpoints: Checkpoints) -> None:
    with (
        checkpoints.held(),
        pytest.raises(TspinError, match="another process is training into this folder"),
        Checkpoints(checkpoints.path, KEY).held(),
    ):
        pass
    with checkpoints.held():
        checkpoints.remove()
    assert not checkpoints.path.exists()


def test_sigterm_is_noted_only_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    termination = Termination()
    with termination.noted():
        assert not termination.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.requested
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_checkpoint_is_due_by_the_clock(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((1000.0, 1119.0, 1120.0, 1120.0, 1239.0, 1240.0, 1240.0))
    monkeypatch.setattr("tspin.train.checkpoints.monotonic", lambda: next(clock))
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
