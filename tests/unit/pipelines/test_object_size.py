"""The size of the object that a pipeline becomes in the cluster."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tspin.config import RunConfig
from tspin_pipelines.compile import compile_pipeline
from tspin_pipelines.graph.graphs import GRAPHS
from tspin_pipelines.object_size import LIMIT, NEAR, ROOM, iterations_that_fit, size_of
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import load_profile


def _plan(iterations: int, margin: float | None = 0.1) -> Plan:
    values = {
        "run_dir": "runs/x",
        "iterations": iterations,
        "model": {"path": "m"},
        "data": {"annotated": "a.jsonl", "heldout": "h.jsonl"},
        "gate": {"margin": margin},
    }
    return Plan(RunConfig.model_validate(values), load_profile("gke-h100"))


def test_each_iteration_counts_once_with_its_container_and_twice_with_its_tasks() -> None:
    """A container that all iterations have stands there once; what is new is about 40 KB each."""
    first, second, third = (size_of(GRAPHS["run"](_plan(number, None))) for number in (2, 3, 4))
    assert third - second == pytest.approx(second - first, rel=0.02)
    assert 20_000 < second - first < 40_000
    assert size_of(GRAPHS["run"](_plan(4))) > third


def test_a_pipeline_that_nears_the_limit_says_how_many_iterations_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting, large = (size_of(GRAPHS["run"](_plan(number))) for number in (5, 6))
    # In a cluster that takes five iterations: a real one takes 16, which kfp compiles for a minute.
    monkeypatch.setattr("tspin_pipelines.object_size.ROOM", (fitting + large) // 2)
    monkeypatch.setattr("tspin_pipelines.compile.NEAR", fitting)
    with caplog.at_level(logging.WARNING, logger="tspin_pipelines"):
        compile_pipeline("run", _plan(3), tmp_path / "small.yaml")
        assert not caplog.records
        compile_pipeline("run", _plan(6), tmp_path / "large.yaml")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"6 iterations make a workflow of about {large / 1e6:.2f} MB" in warning
    assert "about 5 iterations fit" in warning
    assert (tmp_path / "large.yaml").is_file()


def test_what_fits_follows_the_parabola() -> None:
    sizes = [(number, 50_000 + 40_000 * number + 500 * number**2) for number in (1, 6, 10)]
    fit = iterations_that_fit(sizes)
    assert 50_000 + 40_000 * fit + 500 * fit**2 <= ROOM
    assert 50_000 + 40_000 * (fit + 1) + 500 * (fit + 1) ** 2 > ROOM
    assert iterations_that_fit([(1, LIMIT), (2, 2 * LIMIT), (3, 3 * LIMIT)]) == 1
    assert NEAR < ROOM < LIMIT
