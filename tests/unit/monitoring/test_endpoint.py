"""The notes of steps as metrics, on a port that is free again afterwards."""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tspin.errors import InputError
from tspin.monitoring.endpoint import StepCollector, serving
from tspin.monitoring.families import FAMILIES, INFO, ITERATIONS, PHASES
from tspin.progress.status import NOTES, RUN_ID, at_work, publish


def samples(folder: Path, iterations: int | None = None) -> list[Sample]:
    collector = StepCollector(folder, run="r", iterations=iterations)
    return [sample for metric in collector.collect() for sample in metric.samples]


def note(folder: Path, name: str, **values: Any) -> None:
    whole = {"run": "r", "iteration": 0, "step": "generate", "written": 1.0, **values}
    (folder / f"{name}.json").write_text(json.dumps(whole))


def test_each_value_of_a_note_has_its_metric(tmp_path: Path) -> None:
    values = {f.source: at for at, f in enumerate(FAMILIES) if f.source != "checkpoint_time"}
    note(tmp_path, "a", **values, phases={"loading": 2.5}, unknown=1)
    told = {(s.name, *s.labels.values()): s.value for s in samples(tmp_path, iterations=3)}
    place = ("r", "0", "generate")
    assert told.pop((ITERATIONS.name, "r")) == 3
    assert told.pop((INFO.name, *place)) == 1
    assert told.pop((PHASES.name, *place, "loading")) == 2.5
    assert told == {(f.name, *place): values[f.source] for f in FAMILIES if f.source in values}


def test_an_age_counts_from_the_checkpoint_to_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(tmp_path, "a", checkpoint_time=1000.0)
    monkeypatch.setattr("tspin.monitoring.endpoint.time.time", lambda: 1060.0)
    (age,) = [s.value for s in samples(tmp_path) if s.name == "tspin_checkpoint_age_seconds"]
    assert age == 60


def test_no_series_is_there_twice_and_the_last_note_counts(tmp_path: Path) -> None:
    note(tmp_path, "a", done=5, written=2.0)
    note(tmp_path, "b", done=3, written=1.0)
    note(tmp_path, "c", done=7, iteration=None, written=1.0)
    done = [(s.labels["iteration"], s.value) for s in samples(tmp_path) if "_done" in s.name]
    assert sorted(done) == [("", 7), ("0", 5)]


def test_a_step_is_told_on_the_port_and_the_port_is_free_afterwards(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(RUN_ID, "r")
    caplog.set_level(logging.INFO, "tspin")
    with serving(0, iterations=2) as port:
        folder = os.environ[NOTES]
        with at_work("train", 1):
            publish(loss=0.25)
            values = asked(port)
        place = {"run": "r", "iteration": "1", "step": "train"}
        assert values["tspin_train_loss"] == {**place, "value": 0.25}
        assert asked(port) == {ITERATIONS.name: {"run": "r", "value": 2}}
        with pytest.raises(InputError, match=f"port {port} for Prometheus is not to be had"):
            serving(port, iterations=None).__enter__()
    assert f"metrics for Prometheus on port {port}" in caplog.text
    assert not Path(folder).exists()
    assert NOTES not in os.environ
    with serving(port, iterations=None) as again:
        assert again == port


def asked(port: int) -> dict[str, dict[str, str | float]]:
    """Labels and value by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {s.name: {**s.labels, "value": s.value} for f in families for s in f.samples}
