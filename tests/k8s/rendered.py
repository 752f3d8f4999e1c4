"""Overlays as kustomize renders them, and what is in them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Document = dict[str, Any]

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())


def need_kubectl() -> None:
    """Skip without kubectl, or fail where TSPIN_REQUIRE_KUBECTL says that it must be there."""
    if shutil.which("kubectl") is None:
        message = "needs kubectl, whose kustomize renders the overlays"
        if os.environ.get("TSPIN_REQUIRE_KUBECTL"):
            pytest.fail(message)
        pytest.skip(message)


@functools.cache
def render(folder: str) -> list[Document]:
    """The documents of a kustomization, by its path below k8s/."""
    need_kubectl()
    command = ["kubectl", "kustomize", str(K8S / folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def overlay(name: str) -> list[Document]:
    """All that a cluster has of ours: what is there once, and one namespace."""
    return [*render(f"cluster/{name}"), *render(f"overlays/{name}")]


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def names(documents: list[Document], *kinds: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(documents, *kinds)}


def named(documents: list[Document], kind: str, name: str) -> Document:
    return next(d for d in of_kind(documents, kind) if d["metadata"]["name"] == name)


def pod_templates(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod template with the object that it stands in."""
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        name = f"{kind}/{document['metadata']['name']}"
        if kind in ("Job", "Deployment"):
            yield name, spec["template"]
        elif kind == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]
        elif kind == "TrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield f"{name}/{job['name']}", job["template"]["spec"]["template"]


def training_templates(documents: list[Document]) -> dict[str, Document]:
    """All pod templates but that of the one that cleans the volumes."""
    every = dict(pod_templates(documents))
    assert every.pop("CronJob/tspin-clean")
    return every


def containers(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", []), *pod["containers"]]
