"""The work never waits for a tracker, and no error of one reaches it."""

from __future__ import annotations

import threading

import pytest

import tspin.tracking.sender
from tspin.errors import TspinError
from tspin.processes.launch import StoppedError
from tspin.tracking.sender import sending


class Tracker:
    """Takes what it is told, unless it is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.away, self.ended, self.sent = away, "", 0
        self.tried = threading.Event()

    def send(self) -> None:
        try:
            if self.away:
                raise ConnectionError("http://me:secret-of-mine@tracker.test does not answer")
            self.sent += 1
        finally:
            self.tried.set()

    def unsent(self) -> list[str]:
        return ["iteration 3: the curves of steps 5 to 9"] if self.away else []

    def end(self, status: str) -> None:
        self.ended = status


def test_it_is_told_at_the_end_how_the_work_ended() -> None:
    for error, status in {
        None: "FINISHED",
        TspinError("broken"): "FAILED",
        StoppedError("SIGTERM"): "KILLED",
        KeyboardInterrupt(): "KILLED",
        SystemExit(143): "KILLED",
    }.items():
        tracker = Tracker()
        if error is None:
            with sending(tracker):
                pass
        else:
            with pytest.raises(type(error)), sending(tracker):
                raise error
        assert tracker.ended == status
        assert tracker.sent >= 1


def test_one_that_is_away_is_said_once_and_what_it_lacks_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tspin.tracking.sender, "EVERY", 0.0)
    tracker = Tracker(away=True)
    with sending(tracker):
        for _ in range(3):
            tracker.tried.clear()
            assert tracker.tried.wait(60)
    said, lacking = caplog.messages
    assert "the work goes on" in said
    assert "did not get: iteration 3: the curves of steps 5 to 9." in lacking
    assert "secret-of-mine" not in caplog.text


def test_one_that_comes_back_is_told_the_rest(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", logger="tspin.tracking")
    monkeypatch.setattr(tspin.tracking.sender, "EVERY", 0.0)
    tracker = Tracker(away=True)
    with sending(tracker):
        assert tracker.tried.wait(60)
        tracker.away = False
    assert "answers again" in caplog.messages[-1]
    assert tracker.ended == "FINISHED"


def test_one_that_never_answers_holds_nobody_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tspin.tracking.sender, "PATIENCE", 0.01)
    answers = threading.Event()

    class Hanging(Tracker):
        def send(self) -> None:
            answers.wait()

    with sending(Hanging(away=True)):
        pass
    assert "did not get" in caplog.text
    answers.set()
