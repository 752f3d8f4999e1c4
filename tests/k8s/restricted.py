"""The restricted Pod Security Standard, and what this project asks beyond it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rendered import Document, containers

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: Document) -> list[str]:
    """What the restricted standard forbids in a pod's spec, each by name."""
    context = pod.get("securityContext", {})
    found = [f"pod: {problem}" for problem in _pod(pod, context)]
    for container in containers(pod):
        own = container.get("securityContext", {})
        found += [
            f"{container['name']}: {problem}" for problem in _container(container, own, context)
        ]
    return found


def _pod(pod: Document, context: dict[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        kind = next(key for key in volume if key != "name")
        if kind not in VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    if context.get("sysctls"):
        yield "sysctls"
    yield from _either(context)


def _container(container: Document, own: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield "runAsNonRoot is not true"
    seccomp = own.get("seccompProfile", pod.get("seccompProfile", {}))
    if seccomp.get("type") not in SECCOMP:
        yield "seccompProfile is not set"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    yield from _either(own)


def _either(context: dict[str, Any]) -> Iterator[str]:
    """What may be said of the pod or of a container."""
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"
    if context.get("seLinuxOptions", {}).get("type") not in SELINUX:
        yield "seLinuxOptions"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "appArmorProfile"


def house_violations(pod: Document) -> list[str]:
    """Beyond the standard: read-only root, a numeric user, room for caches, bounded resources."""
    found = []
    if pod.get("securityContext", {}).get("runAsUser") != 10001:
        found.append("pod: runAsUser is not the image's 10001")
    if pod.get("automountServiceAccountToken") is not False:
        found.append("pod: mounts an API token that it does not use")
    for container in containers(pod):
        name, resources = container["name"], container.get("resources", {})
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            found.append(f"{name}: the root file system is writable")
        for resource in ("cpu", "memory"):
            if resource not in resources.get("requests", {}) or resource not in resources["limits"]:
                found.append(f"{name}: {resource} is not requested and limited")
        mounts = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
        if not {"/cache", "/tmp"} <= mounts:  # noqa: S108
            found.append(f"{name}: nothing writable at /cache and /tmp")
    return found
