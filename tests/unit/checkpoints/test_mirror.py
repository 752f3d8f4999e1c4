"""Copies of checkpoints that several processes push, each its own part."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tspin.checkpoints.mirror import CheckpointMirror
from tspin.store import open_store


def write_parts(folder: Path, step: int, processes: int) -> Path:
    """What so many processes leave, with the mark of a whole checkpoint."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for rank in range(processes):
        for name in (
            f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors",
            f"random-{rank}.safetensors",
        ):
            (checkpoint / name).write_text(f"{step} {name}")
    for name in ("trainer_state.json", "complete.json"):
        (checkpoint / name).write_text(str(step))
    return checkpoint


def mirrors(uri: str, processes: int) -> list[CheckpointMirror]:
    return [CheckpointMirror(uri, rank=rank, processes=processes) for rank in range(processes)]


def test_every_process_pushes_its_own_part(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    first, second = mirrors(uri, 2)
    checkpoint = write_parts(tmp_path / "here", 4, 2)
    first.push(checkpoint)
    pushed = {key.rpartition("/")[2] for key in open_store(uri).list()}
    assert pushed == {
        "complete-0",
        "random-0.safetensors",
        "shard-00001-model-00001-of-00001.safetensors",
        "trainer_state.json",
    }
    assert first.fetch(tmp_path / "torn", than=0) is None
    second.push(checkpoint)
    assert first.fetch(tmp_path / "no newer one", than=4) is None
    assert first.fetch(tmp_path / "there", than=0) == 4
    fetched = tmp_path / "there/checkpoint-4"
    # The mark is for whoever fetched: a kill half-way must not leave one.
    names = {path.name for path in checkpoint.iterdir()} - {"complete.json"}
    assert {path.name for path in fetched.iterdir()} == names
    for name in names:
        assert (fetched / name).read_text() == (checkpoint / name).read_text()


def test_an_older_one_stays_until_all_have_pushed_the_next(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    first, second = mirrors(uri, 2)
    older = write_parts(tmp_path / "here", 4, 2)
    second.push(older)
    first.push(older)
    newer = write_parts(tmp_path / "here", 6, 2)
    first.push(newer)
    assert first.fetch(tmp_path / "there", than=0) == 4
    second.push(newer)
    first.push(newer)
    assert {key.split("/")[0] for key in open_store(uri).list()} == {"checkpoint-6"}


def test_parts_of_unlike_numbers_of_processes_never_mix(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    # Two processes, of which one was killed before it had pushed; one process then comes as far.
    mirrors(uri, 2)[1].push(write_parts(tmp_path / "two", 4, 2))
    (alone,) = mirrors(uri, 1)
    alone.push(write_parts(tmp_path / "one", 4, 1))
    assert alone.fetch(tmp_path / "there", than=0) == 4
    fetched = sorted(path.name for path in (tmp_path / "there/checkpoint-4").iterdir())
    assert fetched == [
        "random-0.safetensors",
        "shard-00001-model-00001-of-00001.safetensors",
        "trainer_state.json",
    ]


def test_a_push_runs_beside_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mirror,) = mirrors(str(tmp_path / "store"), 1)
    store, go_on = mirror._store, threading.Event()
    upload = store.upload

    def slow_upload(path: Path, key: str) -> None:
        assert go_on.wait(60)
        upload(path, key)

    monkeypatch.setattr(store, "upload", slow_upload)
    mirror.start(write_parts(tmp_path / "here", 4, 1))
    assert mirror.busy
    assert mirror.fetch(tmp_path / "there", than=0) is None
    go_on.set()
    mirror.settle()
    assert not mirror.busy
    assert mirror.fetch(tmp_path / "there", than=0) == 4


def test_an_error_of_a_push_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mirror,) = mirrors(str(tmp_path / "store"), 1)
    monkeypatch.setattr(mirror, "push", lambda checkpoint: 1 / 0)
    mirror.start(tmp_path)
    with pytest.raises(ZeroDivisionError):
        mirror.settle()
