"""The TrainJob as Kubernetes gets it: fields that Kubeflow Trainer 2.0 to 2.2 have in common."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from tspin_trainjob.nodes import Nodes

__all__ = ["API_VERSION", "GROUP", "PLURAL", "VERSION", "owner", "trainjob", "trainjob_name"]

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
API_VERSION = f"{GROUP}/{VERSION}"


def trainjob_name(work: dict[str, Any]) -> str:
    """A name that a second try of the same work finds again.

    Args:
        work: All that decides the trained model, and the nodes that train it.
    """
    text = json.dumps(work, sort_keys=True).encode()
    return f"tspin-train-{hashlib.sha256(text).hexdigest()[:12]}"


def owner() -> list[dict[str, Any]]:
    """This pod, if Kubeflow says which: what it owns is deleted with it, whatever kills it."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    if not name or not uid:
        return []
    return [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]


def trainjob(name: str, nodes: Nodes, args: list[str]) -> dict[str, Any]:
    """The document.

    Args:
        name: From `trainjob_name`.
        nodes: How many, and with what.
        args: Of `tspin` on each node; the runtime puts torchrun before them.
    """
    labels = {"app.kubernetes.io/name": "tspin-train", "app.kubernetes.io/part-of": "tspin"}
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": nodes.namespace,
            "labels": labels | nodes.labels,
            "ownerReferences": owner(),
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": nodes.runtime},
            "trainer": {
                "image": nodes.image,
                "args": args,
                "numNodes": nodes.count,
                "numProcPerNode": nodes.processes,
                "resourcesPerNode": nodes.resources,
                "env": [{"name": key, "value": value} for key, value in nodes.env.items()],
            },
        },
    }
