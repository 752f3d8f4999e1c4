"""vLLM's own server as a Deployment behind a Service, without KServe."""

from __future__ import annotations

from tspin.errors import InputError
from tspin_pipelines.serving.pod import Object
from tspin_pipelines.serving.server import server_pod
from tspin_pipelines.serving.serving import (
    SERVES,
    TRACK,
    Release,
    Serving,
    metadata,
    network_policy,
    pod_labels,
)

__all__ = ["deployment_documents"]

_PORT = 8000


def deployment_documents(serving: Serving) -> list[Object]:
    """Deployment, Service and NetworkPolicy; for a canary one more Deployment and Service.

    The Service takes any pod of the name, so that a share of the requests is a share of the pods.

    Raises:
        InputError: so many replicas cannot be shared so, or a pod would not reach the model.
    """
    stable, canary = _replicas(serving)
    documents = [
        _deployment(serving, serving.release, serving.name, stable),
        _service(serving, serving.name, {SERVES: serving.name}),
        network_policy(serving, _PORT),
    ]
    if serving.canary is not None:
        name = f"{serving.name}-canary"
        alone = {SERVES: serving.name, TRACK: "canary"}
        documents += [
            _deployment(serving, serving.canary, name, canary),
            _service(serving, name, alone),
        ]
    return documents


def _replicas(serving: Serving) -> tuple[int, int]:
    """Pods of the champion before, and of the canary."""
    if serving.canary is None:
        return serving.replicas, 0
    canary, rest = divmod(serving.replicas * serving.share, 100)
    if rest or canary == 0:
        fitting = next(n for n in range(1, 101) if n * serving.share % 100 == 0)
        raise InputError(
            f"--canary {serving.share} of --replicas {serving.replicas} is no whole pod, and here "
            f"pods are what is shared; --replicas {fitting} is. KServe shares requests: --to kserve"
        )
    return serving.replicas - canary, canary


def _deployment(serving: Serving, release: Release, name: str, replicas: int) -> Object:
    labels = pod_labels(serving, release)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(serving, release, name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            # The next one serves before the last one goes; it takes the place of one pod more.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "progressDeadlineSeconds": 2400,
            "selector": {"matchLabels": {key: labels[key] for key in (SERVES, TRACK)}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"tspin.io/model": release.champion.record.model},
                },
                "spec": server_pod(serving, release, port=_PORT, container="vllm", fetcher="fetch"),
            },
        },
    }


def _service(serving: Serving, name: str, selector: dict[str, str]) -> Object:
    labels = {
        "app.kubernetes.io/name": serving.name,
        "app.kubernetes.io/part-of": "tspin",
        "app.kubernetes.io/managed-by": "tspin",
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": serving.namespace, "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }
