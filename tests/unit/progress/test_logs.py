"""The forms of a log line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tspin.errors import InputError
from tspin.progress.logs import LOG_FORMAT, formatter, log_format, logs_as_asked
from tspin.progress.status import RUN_ID, at_work


def record(message: str, *arguments: object, **named: object) -> logging.LogRecord:
    line = logging.LogRecord("tspin.x", logging.WARNING, "x.py", 1, message, arguments, None)
    vars(line).update(named)
    return line


def test_a_plain_line_has_time_level_and_message_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_ID, "r")
    with at_work("train", 1):
        line = formatter().format(record("step %d", 3))
    assert line.partition(" ")[2].partition(" ")[2] == "WARNING step 3"


def test_a_tagged_line_has_run_iteration_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_FORMAT, "tagged")
    assert formatter().format(record("x")).endswith(" WARNING [-] x")
    monkeypatch.setenv(RUN_ID, "r")
    with at_work(None, 0):
        assert formatter().format(record("x")).endswith(" WARNING [r 0] x")
        with at_work("train", 0):
            assert formatter().format(record("x")).endswith(" WARNING [r 0 train] x")


def test_a_line_of_json_is_an_object_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_FORMAT, "json")
    monkeypatch.setenv(RUN_ID, "r")
    with at_work("evaluate", -1):
        text = formatter().format(record("é https://u:p@h/\nx", more=3))
    line = json.loads(text)
    assert "\n" not in text
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "tspin.x",
        "run": "r",
        "iteration": -1,
        "step": "evaluate",
        "message": "é https://***@h/\nx",
        "more": 3,
    }
    failed = json.loads(formatter().format(record("x", iteration=4, step="train")))
    assert (failed["iteration"], failed["step"]) == (4, "train")
    try:
        raise ValueError("https://u:p@h/")
    except ValueError:
        line = json.loads(formatter().format(record("x", exc_info=sys.exc_info())))
    assert "ValueError: https://***@h/" in line["traceback"]


def test_another_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_FORMAT, "xml")
    with pytest.raises(InputError, match="TSPIN_LOG_FORMAT is 'xml'; expected one of: plain, tag"):
        log_format()
    monkeypatch.setenv(LOG_FORMAT, "")
    assert log_format() == "plain"


def test_lines_that_another_program_writes_are_as_asked_inside_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler, theirs = logging.NullHandler(), logging.Formatter("[KFP] %(message)s")
    handler.setFormatter(theirs)
    logging.getLogger().addHandler(handler)
    try:
        with logs_as_asked():
            assert handler.formatter is theirs
        monkeypatch.setenv(LOG_FORMAT, "json")
        with logs_as_asked():
            assert handler.formatter is not None
            assert json.loads(handler.format(record("x")))["message"] == "x"
        assert handler.formatter is theirs
    finally:
        logging.getLogger().removeHandler(handler)


def test_every_line_of_a_command_is_json_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG_FORMAT, "json")
    command = [sys.executable, "-m", "tspin", "data", "validate", str(tmp_path / "absent.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "absent.jsonl" in json.loads(line)["message"]
    monkeypatch.setenv(LOG_FORMAT, "xml")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "TSPIN_LOG_FORMAT is 'xml'" in done.stderr
