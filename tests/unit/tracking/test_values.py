"""What is told of a run, from the files that its steps leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tspin.config import RunConfig
from tspin.records.manifest import Manifest, write_manifest
from tspin.tracking.values import (
    config_params,
    curve,
    heldout,
    iteration_params,
    recorded_tags,
)


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "runs/r",
            "iterations": 3,
            "model": {"path": "m"},
            "data": {"annotated": "a.jsonl"},
            "train": {"learning_rate": [1e-3, 1e-4, 1e-5]},
            "system": {"report_to": ["mlflow"]},
        }
    )


def test_parameters_are_what_decides_the_result(config: RunConfig) -> None:
    params = config_params(config)
    assert params["train.method"] == "tspin"
    assert params["train.learning_rate"] == "[0.001, 0.0001, 1e-05]"
    assert params["generate.stop"] == "[]"
    changing = ("system", "run_dir", "iterations")
    assert not [name for name in params if name.startswith(changing)]


def test_an_iteration_has_its_own_value(config: RunConfig) -> None:
    assert iteration_params(config, 1) == {"train.learning_rate": "0.0001", "train.beta": "0.1"}
    assert iteration_params(config, -1) == {}


def test_numbers_of_a_row_are_points_at_its_step() -> None:
    row = {"step": 7, "loss": 0.5, "rewards/accuracies": 1, "warnings": ["w"], "done": True}
    points = [(point.name, point.value, point.step) for point in curve([row], 5)]
    assert points == [("train/loss", 0.5, 7), ("train/rewards/accuracies", 1.0, 7)]


def test_heldout_values_come_with_their_interval_and_a_name_that_mlflow_takes(
    tmp_path: Path,
) -> None:
    values = {
        "exact@1": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8},
        "seconds": {"value": 3.0, "low": None, "high": None, "n": 1},
    }
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"iteration": 2, "metrics": values}))
    points = {point.name: (point.value, point.step) for point in heldout(metrics)}
    assert points == {
        "heldout/exact_1": (0.5, 2),
        "heldout/exact_1.low": (0.25, 2),
        "heldout/exact_1.high": (0.75, 2),
        "heldout/seconds": (3.0, 2),
    }
    assert {p.time_ms for p in heldout(metrics)} == {int(metrics.stat().st_mtime * 1000)}


def test_hashes_are_those_of_the_manifest(tmp_path: Path) -> None:
    out = tmp_path / "triplets.jsonl"
    assert recorded_tags(out) == {}
    out.write_text("{}\n")
    manifest = write_manifest(out, Manifest(kind="triplets", inputs={"annotated": "aa"}, model="m"))
    assert recorded_tags(out) == {
        "tspin.triplets.sha256": manifest.sha256,
        "tspin.triplets.key": manifest.key,
        "tspin.triplets.from.annotated": "aa",
        "tspin.triplets.policy": "m",
    }
