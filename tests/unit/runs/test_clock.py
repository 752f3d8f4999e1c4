"""Seconds add up over continuations, and a step that fails keeps what it has used."""

import json
from pathlib import Path

import pytest

from tspin.runs.clock import Clock


def test_seconds_add_up_over_continuations_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    path.write_text(json.dumps({"train": 10.0, "base": 2.0}))
    with pytest.raises(ValueError, match="broke"), Clock(path).running("train"):
        raise ValueError("broke")
    after = json.loads(path.read_bytes())
    assert 10 < after["train"] < 11
    assert after["base"] == 2.0


def test_what_was_taken_over_keeps_its_seconds(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"proto": 3.0}))
    clock = Clock(tmp_path / "b.json")
    clock.take(Clock(tmp_path / "a.json"), "proto")
    clock.take(Clock(tmp_path / "a.json"), "base")
    assert Clock(tmp_path / "b.json").seconds == {"proto": 3.0}
