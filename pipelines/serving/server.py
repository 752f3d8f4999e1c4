"""A pod of our own images: one container fetches and checks the champion, the other serves it."""

from __future__ import annotations

from typing import Any

from tspin.errors import InputError
from tspin_pipelines.serving import pod
from tspin_pipelines.serving.arguments import measured_arguments, named_arguments
from tspin_pipelines.serving.pod import Object
from tspin_pipelines.serving.serving import Release, Serving
from tspin_pipelines.serving.source import Claim, Hub, on_claim

__all__ = ["server_pod"]

_MODELS, _BASE = "/models", "/base"
_START = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
"""With the interpreter, and so the packages, that `tspin` evaluated with."""
_DRAIN = 15
"""Seconds in which the addresses of a pod that ends are taken out of use."""


def server_pod(
    serving: Serving, release: Release, *, port: int, container: str, fetcher: str
) -> Object:
    """The spec of a pod that serves one champion.

    Args:
        serving: What it belongs to.
        release: The champion.
        port: That it listens at.
        container: Name of the container that serves.
        fetcher: Name of the one that fetches.

    Raises:
        InputError: a pod reaches the registry or the base nowhere.
    """
    profile, stage = serving.profile, serving.stage
    folder = f"{_MODELS}/{release.champion.record.model}"
    base, further, mounted = _base(serving, release)
    arguments = named_arguments(release.champion, serving.settings, folder, **base)
    arguments += measured_arguments(release.champion, serving.settings, folder)
    arguments += ["--host", "0.0.0.0", "--port", str(port)]  # noqa: S104  (of a pod)
    return {
        **pod.identity(profile),
        **pod.nodes(stage),
        "terminationGracePeriodSeconds": 60 + _DRAIN,
        "initContainers": [_fetcher(serving, release, fetcher, folder)],
        "containers": [_server(serving, container, port, arguments, mounted)],
        "volumes": [
            *pod.volumes(profile),
            {"name": "model", "emptyDir": {}},
            pod.shared_memory("shared-memory", stage),
            *further,
        ],
    }


def _server(
    serving: Serving, name: str, port: int, arguments: list[str], mounted: list[Object]
) -> Object:
    profile, stage = serving.profile, serving.stage
    return {
        "name": name,
        "image": serving.image,
        "imagePullPolicy": profile.images.pull_policy,
        "command": _START,
        "args": arguments,
        "env": [*pod.environment(profile, stage), {"name": "VLLM_NO_USAGE_STATS", "value": "1"}],
        "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
        **_probes(),
        "resources": stage.resources,
        "securityContext": pod.CONTAINER,
        "volumeMounts": [
            *pod.mounts(profile, stage),
            {"name": "model", "mountPath": _MODELS, "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108  (the pod's own)
            *mounted,
        ],
    }


def _fetcher(serving: Serving, release: Release, name: str, folder: str) -> Object:
    """Copies the model by its content hash, every file against the list that its record holds."""
    profile, light = serving.profile, serving.profile.stages.light
    champion = release.champion
    if "://" not in champion.registry and on_claim(champion.registry, light.volumes) is None:
        raise InputError(
            f"{champion.registry}: a folder that no pod sees: no volume of the profile's stage "
            "'light' holds it. Promote into s3://, gs:// or az://, or a folder on such a volume"
        )
    return {
        "name": name,
        "image": profile.image(light),
        "imagePullPolicy": profile.images.pull_policy,
        "command": ["tspin"],
        "args": [
            *("registry", "fetch", "--registry", champion.registry),
            *("--hash", champion.record.model, "--out", folder),
        ],
        "env": pod.environment(profile, light),
        "resources": light.resources,
        "securityContext": pod.CONTAINER,
        "volumeMounts": [
            *pod.mounts(profile, light),
            {"name": "model", "mountPath": _MODELS},
        ],
    }


def _base(serving: Serving, release: Release) -> tuple[dict[str, Any], list[Object], list[Object]]:
    """How the server names the base, and the volume and the mount for it."""
    source, stage = release.base, serving.stage
    if source is None:
        return {"base": ""}, [], []
    if isinstance(source, Hub):
        return {"base": source.name, "revision": source.revision}, [], []
    if not isinstance(source, Claim):
        raise InputError(
            f"the adapter's base is {source.uri}, and vLLM loads no base from there. Copy it to a "
            "claim and name it with --base pvc://CLAIM/PATH, serve with --to kserve, or merge the "
            "adapter (tspin export --merge) and promote that"
        )
    for volume in stage.volumes:
        if volume.claim == source.name:
            return {"base": f"{volume.path}/{source.path}".rstrip("/")}, [], []
    claim = {"claimName": source.name, "readOnly": True}
    mount = {"name": "base", "mountPath": _BASE, "readOnly": True}
    path = {"subPath": source.path} if source.path else {}
    return {"base": _BASE}, [{"name": "base", "persistentVolumeClaim": claim}], [{**mount, **path}]


def _probes() -> Object:
    """Half an hour to load; then out of use after ten seconds, and begun anew after two minutes."""
    alive = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**alive, "periodSeconds": 10, "failureThreshold": 180},
        "readinessProbe": {**alive, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 12},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_DRAIN)]}}},
    }
