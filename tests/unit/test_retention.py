"""Old runs and abandoned checkpoints go; what is new, in use or not ours stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from tspin.cli.main import app
from tspin.errors import InputError
from tspin.retention import clean_checkpoints, clean_runs


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def run(folder: Path, days: float) -> Path:
    (folder / "iter-0").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "iter-0/metrics.json").write_text("{}")
    age(folder, days)
    return folder


def checkpoints(folder: Path, days: float) -> Path:
    (folder / "checkpoint-7").mkdir(parents=True)
    (folder / "key.json").write_text("{}")
    (folder / "checkpoint-7/model.safetensors").write_text("")
    age(folder, days)
    return folder


def test_only_old_runs_of_the_schedule_go(tmp_path: Path) -> None:
    old = [run(tmp_path / f"tspin-retrain-{number}", days=40 + number) for number in range(4)]
    kept = [run(tmp_path / "tspin-retrain-new", days=2), run(tmp_path / "mine", days=400)]
    other = tmp_path / "tspin-retrain-data"
    other.mkdir()
    (other / "config.json").write_text("{}")
    age(other, 400)
    (tmp_path / "tspin-retrain-link").symlink_to(kept[1])
    told = clean_runs(tmp_path, days=30, keep=2, prefix="tspin-retrain-", dry=True)
    assert told == old[1:]  # The newest two of the schedule's stay: `new`, and one old.
    assert all(path.is_dir() for path in old)
    assert clean_runs(tmp_path, days=30, keep=2, prefix="tspin-retrain-") == old[1:]
    assert [path.is_dir() for path in old] == [True, False, False, False]
    assert all(path.is_dir() for path in [*kept, other])
    assert (tmp_path / "tspin-retrain-link").is_symlink()


def test_a_run_that_is_at_work_is_new(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", days=40)
    (folder / "iter-0/responses.jsonl").write_text("{}")
    age(folder.parent / "a/iter-0/metrics.json", 40)
    assert clean_runs(tmp_path, days=30, keep=0) == []


def test_abandoned_checkpoints_go_unless_a_training_holds_them(tmp_path: Path) -> None:
    abandoned, held = checkpoints(tmp_path / "a", 40), checkpoints(tmp_path / "b", 40)
    new, other = checkpoints(tmp_path / "c", 3), tmp_path / "huggingface"
    other.mkdir()
    age(other, 400)
    with FileLock(held / "lock"):
        age(held, 40)
        assert clean_checkpoints(tmp_path, days=30) == [abandoned]
    assert [p.is_dir() for p in (abandoned, held, new, other)] == [False, True, True, True]


def test_what_a_kill_left_goes_the_next_time(tmp_path: Path) -> None:
    left = tmp_path / ".cleaned-a"
    left.mkdir()
    (left / "half").write_text("")
    assert clean_checkpoints(tmp_path, days=30, dry=True) == []
    assert left.is_dir()
    assert clean_checkpoints(tmp_path, days=30) == []
    assert not left.exists()


def test_the_command_says_what_goes(tmp_path: Path) -> None:
    run(tmp_path / "runs/tspin-retrain-1", days=40)
    checkpoints(tmp_path / "checkpoints/a", days=40)
    options = ["clean", "--runs", str(tmp_path / "runs"), "--days", "30", "--keep", "0"]
    options += ["--checkpoints", str(tmp_path / "checkpoints")]
    dry = CliRunner().invoke(app, [*options, "--dry-run"])
    assert dry.output.splitlines() == [
        f"would delete {tmp_path / 'runs/tspin-retrain-1'}",
        f"would delete {tmp_path / 'checkpoints/a'}",
    ]
    done = CliRunner().invoke(app, options)
    assert done.output == dry.output.replace("would delete", "deleted")
    assert not any((tmp_path / "runs").iterdir())


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        clean_runs(tmp_path / "none", days=30, keep=0)
    nothing = CliRunner().invoke(app, ["clean", "--days", "30"])
    assert isinstance(nothing.exception, InputError)
    assert "--runs or --checkpoints" in str(nothing.exception)
