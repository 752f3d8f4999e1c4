"""Recorded pipelines are the server's own messages, field by field, under names that Argo takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_platform
from kfp.pipeline_spec import pipeline_spec_pb2 as messages

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))


def check(spec: dict[str, Any], platform: dict[str, Any]) -> None:
    """Raise where a field is unknown or of another type."""
    json_format.ParseDict(spec, messages.PipelineSpec())
    json_format.ParseDict(spec["deploymentSpec"], messages.PipelineDeploymentConfig())
    json_format.ParseDict(platform, messages.PlatformSpec())
    for config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(config, kubernetes_platform.KubernetesExecutorConfig())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_messages_and_names(path: Path) -> None:
    spec, platform = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    check(spec, platform)
    dags = [spec["root"], *spec["components"].values()]
    tasks = [name for component in dags for name in component.get("dag", {}).get("tasks", {})]
    assert len(tasks) > 3
    for name in (spec["pipelineInfo"]["name"], *spec["components"], *tasks):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name), name
    for executor in spec["deploymentSpec"]["executors"].values():
        # Argo passes each on as one argument of a process, of which Linux takes 128 KiB.
        assert len(str(executor)) < 100_000


def test_a_misspelt_field_is_found() -> None:
    spec, platform = yaml.load_all(GOLDEN[0].read_text(), Loader=yaml.CSafeLoader)
    config = next(iter(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()))
    config["nodeSelektor"] = {}
    with pytest.raises(json_format.ParseError, match="nodeSelektor"):
        check(spec, platform)
