"""Pipelines whose every task is a container of the image: no network, read-only, not as root."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import local

from tests.containers.conftest import USER
from tests.containers.followed import docker_socket
from tests.containers.podman import Podman
from tests.local_pipelines import LocalKubeflow
from tspin.config import RunConfig

pytestmark = pytest.mark.containers


@pytest.fixture
def kubeflow(podman: Podman, cpu_image: str, tmp_path: Path) -> Iterator[LocalKubeflow]:
    """Everything below one folder that containers see under the same path."""
    runner = local.DockerRunner(
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108  (the container's own)
        user=f"{USER}:{USER}",
        cap_drop=["all"],
    )
    registry = cpu_image.rpartition("/")[0]
    with docker_socket(podman):
        yield LocalKubeflow(tmp_path, runner=runner, registry=registry)


def _config(kubeflow: LocalKubeflow, *overrides: str) -> RunConfig:
    """Data and model stand below the pipeline root, which the image's user may write to."""
    config = kubeflow.config(*overrides)
    for path in (kubeflow.root, *kubeflow.root.rglob("*")):
        os.chown(path, USER, USER)
    return config


def test_an_iteration_in_containers(kubeflow: LocalKubeflow) -> None:
    config = _config(kubeflow, "iterations=1", "gate.margin=null")
    kubeflow.run("run", config)
    assert kubeflow.tasks() == Counter(
        {
            "preflight": 1,
            "check-inputs": 1,
            "import-data": 2,
            "import-model": 1,
            "generate": 2,
            "build-triplets": 1,
            "train": 1,
            "evaluate": 2,
            "gate": 2,
            "report": 1,
        }
    )
    page = kubeflow.one("report", "page")
    assert page.stat().st_uid == USER
    assert "Its one iteration ran." in page.read_text()


def test_a_container_that_fails_fails_the_run(kubeflow: LocalKubeflow) -> None:
    config = _config(kubeflow)
    Path(str(config.data.heldout)).write_text("not a record\n")
    with pytest.raises(RuntimeError, match="import-data"):
        kubeflow.run("evaluate", config)
    assert kubeflow.tasks()["evaluate"] == 0
