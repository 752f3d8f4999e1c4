"""Where the work of a process is, and the notes that it keeps of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tspin.progress.status import (
    NOTES,
    RUN_ID,
    at_work,
    mark_error,
    publish,
    read_notes,
    where,
    where_failed,
)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(NOTES, str(tmp_path))
    monkeypatch.setenv(RUN_ID, "r")
    return tmp_path


def test_a_note_is_there_as_long_as_its_step(notes: Path) -> None:
    publish(done=1)  # Nothing runs that this could be of.
    assert read_notes(notes) == []
    with at_work(None, 2):
        publish(done=1)
        assert read_notes(notes) == []
        with at_work("train", 2):
            (note,) = read_notes(notes)
            assert (note["run"], note["iteration"], note["step"]) == ("r", 2, "train")
            publish(loss=np.float32(0.5), left=3)
            publish(left=2)
            (note,) = read_notes(notes)
            assert (note["loss"], note["left"]) == (0.5, 2)
            with at_work("generate", 2):
                publish(done=4)
                outer, inner = sorted(read_notes(notes), key=lambda note: "done" in note)
                assert (outer["loss"], inner["done"]) == (0.5, 4)
                assert "loss" not in inner
            publish(left=1)
            (note,) = read_notes(notes)
            assert (note["loss"], note["left"]) == (0.5, 1)
        assert list(notes.iterdir()) == []
    assert where() == {"run": "r", "iteration": None, "step": None}


def test_only_one_of_several_processes_keeps_a_note(notes: Path) -> None:
    with at_work("train", 0, told=False):
        publish(loss=1.0)
        assert where()["step"] == "train"
        assert list(notes.iterdir()) == []


def test_where_nobody_asks_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with at_work("train", 0):
        publish(loss=1.0)
    assert list(tmp_path.iterdir()) == []


def test_no_step_fails_because_nobody_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOTES, str(tmp_path / "gone"))
    with at_work("train", 0):
        publish(loss=1.0)
        assert where()["step"] == "train"
    assert not (tmp_path / "gone").exists()


def test_a_note_that_is_damaged_or_gone_is_passed_over(notes: Path) -> None:
    (notes / "1-train.json").write_text("{")
    (notes / "2-train.json").symlink_to(notes / "absent")
    with at_work("evaluate", -1):
        (note,) = read_notes(notes)
        assert note["step"] == "evaluate"
        assert (notes / f"{os.getpid()}-evaluate.json").is_file()


def test_an_error_says_where_the_work_was(notes: Path) -> None:
    error = ValueError("x")
    assert where_failed(error) == {}
    with pytest.raises(ValueError, match="x"), at_work(None, 3), at_work("train", 3):
        raise error
    mark_error(error)
    assert where_failed(error) == {"run": "r", "iteration": 3, "step": "train"}
