"""Pipelines compile for every profile, and what cannot be compiled is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import compile_pipeline
from pipelines.profile import load_profile, profile_names
from tspin.config import RunConfig
from tspin.errors import InputError


def _config(**data: str) -> RunConfig:
    return RunConfig.model_validate(
        {"run_dir": "runs/x", "model": {"path": "m"}, "data": {"annotated": "a.jsonl", **data}}
    )


def _compiled(name: str, tmp_path: Path) -> list[dict[str, Any]]:
    out = tmp_path / "pipeline.yaml"
    compile_pipeline("evaluate", _config(heldout="h.jsonl"), load_profile(name), out)
    return list(yaml.safe_load_all(out.read_text()))


@pytest.mark.parametrize("name", profile_names())
def test_the_stage_of_the_profile_reaches_the_task(name: str, tmp_path: Path) -> None:
    spec, platform = _compiled(name, tmp_path)
    profile = load_profile(name)
    stage = profile.stages.evaluate
    container = spec["deploymentSpec"]["executors"]["exec-evaluate"]["container"]
    assert container["image"] == profile.image(stage)
    assert ("accelerator" in container["resources"]) == (stage.accelerator is not None)
    if stage.accelerator is not None:
        accelerator = container["resources"]["accelerator"]
        assert accelerator["resourceType"] == stage.accelerator.resource
        assert accelerator["resourceCount"] == str(stage.accelerator.count)
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-evaluate"]
    assert placed.get("nodeSelector", {}).get("labels", {}) == stage.node_selector
    assert [t["key"] for t in placed.get("tolerations", [])] == [t.key for t in stage.tolerations]
    assert placed["activeDeadlineSeconds"] == str(stage.timeout_seconds)
    task = spec["root"]["dag"]["tasks"]["evaluate"]
    assert task["retryPolicy"]["maxRetryCount"] == stage.retry.limit


@pytest.mark.parametrize("name", ["evaluat", "run", "iteration"])
def test_a_pipeline_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    out = tmp_path / "pipeline.yaml"
    with pytest.raises(InputError, match=name):
        compile_pipeline(name, _config(heldout="h.jsonl"), load_profile("cpu"), out)
    assert not out.exists()


def test_evaluation_needs_held_out_records(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.heldout"):
        compile_pipeline("evaluate", _config(), load_profile("cpu"), tmp_path / "p.yaml")
