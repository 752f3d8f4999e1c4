"""Which checkpoints count: whole ones of the same work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint_folders import KEY, write_checkpoint
from tspin.checkpoints.folder import Checkpoints
from tspin.checkpoints.mirror import CheckpointMirror
from tspin.errors import TspinError


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
    assert files == ["complete.json", "model.safetensors", "random-0.safetensors"]


def test_what_a_training_was_begun_with_moves_with_its_checkpoint(tmp_path: Path) -> None:
    mirror = CheckpointMirror(str(tmp_path / "store"))
    lost, moved = (Checkpoints(tmp_path / name, KEY, mirror) for name in ("lost", "moved"))
    with lost.held():
        lost.begun.write_text("two threads")
        write_checkpoint(lost.path, 2)
        lost.finish(2)
        mirror.push(lost.folder(2))
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
        monkeypatch.setattr("tspin.checkpoints.folder.remove", _killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.finish(4)
        assert checkpoints.last() == checkpoints.path / "checkpoint-4"


@pytest.mark.parametrize("deleted", range(11))
def test_a_deletion_that_was_killed_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    mirror = CheckpointMirror(str(tmp_path / "store"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", KEY, mirror)
    with checkpoints.held():
        checkpoints.begun.write_text("two threads")
        write_checkpoint(checkpoints.path, 2)
        checkpoints.finish(2)
        mirror.push(checkpoints.folder(2))
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("os.unlink", _killed_after(deleted))
            checkpoints.remove()
    checkpoints.remove_finished()
    assert not checkpoints.path.exists()
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def _killed_after(calls: int) -> Callable[..., None]:
    left = iter([os.unlink] * calls)

    def unlink(*given: Any, **named: Any) -> None:
        next(left, _killed)(*given, **named)

    return unlink


def _killed(*given: Any, **named: Any) -> None:
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
