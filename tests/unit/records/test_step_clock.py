"""Each second of a step counts once, and those of a start that was killed count as well."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tspin.errors import InputError, TspinError
from tspin.records.manifest import Manifest
from tspin.records.seconds import StepSeconds, carry_seconds, read_seconds, seconds_path
from tspin.records.step_clock import begin_work, kept, phase, timed_step, working

MANIFEST = Manifest(kind="responses", seed=1)

STEP = """
import sys, time
from pathlib import Path
from tspin.records import process_start
from tspin.records import step_clock
from tspin.records.manifest import Manifest

step_clock._SAVED = 0.01
process_start.count_process_start()
with step_clock.timed_step("generate") as clock:
    print(time.monotonic() - clock.began, flush=True)
    with clock.kept(Path(sys.argv[1]), Manifest(kind="responses", seed=1)), clock.working():
        sys.stdin.read()
"""
"""Works until somebody kills it."""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def made(out: Path) -> StepSeconds:
    seconds = read_seconds(out)
    assert seconds is not None
    return seconds


def test_a_phase_inside_another_counts_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("tspin.records.step_clock.time.monotonic", lambda: now[0])
    with timed_step("train", began=97.0) as clock, clock.kept(out, MANIFEST):
        spend(1)
        with phase("loading"):
            spend(2)
            with phase("waiting"):
                spend(4)
            spend(8)
            begin_work()
            spend(16)
            with phase("checkpointing"):
                spend(32)
            begin_work()
            spend(64)
        spend(128)
    seconds = made(out)
    assert seconds.before == {"imports": 3, "checks": 1, "loading": 10, "waiting": 4}
    assert seconds.after == {"training": 80, "checkpointing": 32, "checks": 128}
    assert seconds.total == now[0] - 97
    assert str(seconds) == (
        "train: 18.0 s before the first optimiser step (loading 10.0, waiting 4.0, imports 3.0, "
        "checks 1.0), then checks 128.0, training 80.0, checkpointing 32.0; 258.0 s in all"
    )


def test_phases_add_up_to_the_wall_time(out: Path) -> None:
    before = time.monotonic()
    with timed_step("generate"):
        inner = time.monotonic()
        with kept(out, MANIFEST):
            with phase("tokenising"):
                sum(range(10**5))
            with working():
                sum(range(10**5))
            spent = time.monotonic() - inner
    assert spent <= made(out).total <= time.monotonic() - before
    assert made(out).finished


def test_a_step_that_is_not_timed_has_no_phases(out: Path) -> None:
    with kept(out, MANIFEST), phase("loading"), working():
        begin_work()
    assert not out.parent.joinpath(seconds_path(out)).exists()


def test_a_killed_start_counts(out: Path) -> None:
    # Its standard input stays open for as long as this process has it.
    with subprocess.Popen(
        [sys.executable, "-c", STEP, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        imports = float(process.stdout.readline())
        while read_seconds(out) is None or not made(out).after.get("generating"):
            assert process.poll() is None
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    killed = made(out)
    assert not killed.finished
    assert 0 < killed.before["imports"] <= imports
    with timed_step("generate") as clock, clock.kept(out, MANIFEST), working():
        pass
    again = made(out)
    assert (again.starts, again.finished) == (2, True)
    assert again.before["imports"] == killed.before["imports"]
    assert again.after["generating"] > killed.after["generating"]
    assert again.total > killed.total


@pytest.mark.parametrize("other", [False, True])
def test_other_work_and_work_made_anew_begin_at_zero(out: Path, other: bool) -> None:
    for manifest in (MANIFEST, MANIFEST.model_copy(update={"seed": 2 if other else 1})):
        with timed_step("evaluate") as clock:
            with clock.kept(out, manifest):
                pass
            first = made(out)
    assert first.starts == 1


def test_a_step_that_fails_keeps_its_time_and_a_refusal_leaves_nothing(out: Path) -> None:
    def fail(error: Exception) -> None:
        with timed_step("evaluate") as clock, clock.kept(out, MANIFEST):
            raise error

    with pytest.raises(InputError):
        fail(InputError("no such record"))
    assert not [*out.parent.iterdir()]
    with pytest.raises(TspinError):
        fail(TspinError("the machine is gone"))
    gone = made(out)
    assert not gone.finished
    with pytest.raises(InputError):
        fail(InputError("the record is gone"))
    assert made(out).starts == 2
    assert made(out).total > gone.total


def test_no_step_fails_because_its_time_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with (
        caplog.at_level("INFO"),
        timed_step("train") as clock,
        clock.kept(tmp_path / "file/model", MANIFEST),
    ):
        pass
    assert "train: " in caplog.text  # It is told all the same.
    assert read_seconds(tmp_path / "file/model") is None


def test_the_slowest_of_several_is_carried_on(tmp_path: Path) -> None:
    shards = [tmp_path / name for name in ("a", "b", "c")]
    for shard, spent in zip(shards, (1.0, 3.0, 2.0), strict=True):
        text = StepSeconds(step="generate", work="w", before={}, after={"generating": spent})
        seconds_path(shard).write_text(text.model_dump_json())
    carry_seconds([*shards, tmp_path / "untimed"], tmp_path / "whole")
    assert made(tmp_path / "whole").total == 3
    carry_seconds([tmp_path / "untimed"], tmp_path / "other")
    assert read_seconds(tmp_path / "other") is None
    seconds_path(tmp_path / "other").write_text("{")
    assert read_seconds(tmp_path / "other") is None
