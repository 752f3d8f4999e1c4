"""A process beside this one says what it failed of, and is gone when it is ended."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from tspin.errors import InputError, TspinError
from tspin.processes.companion import Companion
from tspin.processes.launch import StoppedError

WORK = """
import os, signal, sys
from pathlib import Path
from tspin.errors import InputError
from tspin.processes.companion import run_companion

def work(argument):
    what, _, where = argument.partition(" ")
    if what == "refuse":
        raise InputError("a.jsonl:3: nothing there")
    if what == "fail":
        raise ValueError("a bug")
    if what == "leave":
        os._exit(7)
    if what == "end":
        Path(where).write_text("done")
    if what == "wait":
        Path(where).write_text(os.environ["GIVEN"])
        signal.pause()
    if what.isdecimal():
        os.kill(os.getpid(), int(what))

run_companion(work)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_work.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


def start(argument: str) -> Companion:
    return Companion("beside_work", argument, kind="evaluation", environment={"GIVEN": "here"})


def test_its_work_is_waited_for(tmp_path: Path) -> None:
    made = tmp_path / "made"
    start(f"end {made}").wait()
    assert made.read_text() == "done"


@pytest.mark.parametrize(
    ("argument", "kind", "message"),
    [
        ("refuse", InputError, r"^a\.jsonl:3: nothing there$"),
        ("fail", TspinError, "^the evaluation failed: ValueError: a bug$"),
        ("leave", TspinError, "^the evaluation's process ended with exit code 7$"),
        (f"{signal.SIGKILL:d}", TspinError, r"process was killed \(SIGKILL\); the kernel does"),
        (f"{signal.SIGTERM:d}", StoppedError, "^the evaluation was stopped by SIGTERM"),
    ],
)
def test_its_failure_is_told(argument: str, kind: type[TspinError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        start(argument).wait()
    assert type(caught.value) is kind


def test_it_can_be_ended_while_somebody_waits(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    companion = start(f"wait {begun}")
    ends: list[TspinError] = []

    def wait() -> None:
        with pytest.raises(TspinError) as caught:
            companion.wait()
        ends.append(caught.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not begun.is_file() or not begun.read_text():
        waiting.join(0.01)
        assert waiting.is_alive()
    assert begun.read_text() == "here"
    companion.end()
    waiting.join()
    assert isinstance(ends[0], StoppedError)
