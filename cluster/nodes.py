"""The nodes that a stage may run on: how many there are now, how large, with which driver."""

from __future__ import annotations

from typing import Any

from kubernetes.utils import parse_quantity

from tspin_cluster.finding import Finding
from tspin_cluster.needs import Gang
from tspin_cluster.reader import Reader

__all__ = ["check_nodes"]

DRIVER_LABEL = "nvidia.com/cuda.driver-version.major"
"""Of NVIDIA's GPU feature discovery (k8s-device-plugin, docs/gpu-feature-discovery)."""
OLDEST_DRIVER = 580
"""That runs CUDA 13, for which torch in the images is built."""


def check_nodes(reader: Reader, gang: Gang) -> Finding:
    """Whether there are nodes for a stage now, and whether they could run it."""
    nodes = [node for node in reader.get("/api/v1/nodes")["items"] if _takes(gang, node)]
    if not nodes:
        labels = ", ".join(f"{k}={v}" for k, v in gang.placement.selector.items())
        return Finding(
            "warn",
            "none now; fine where the pool grows from none when a pod waits",
            f"{gang.pods} nodes with {labels}" if labels else f"{gang.pods} nodes",
            "kubectl get nodes --show-labels; k8s/pools has the pools",
        )
    large = [node for node in nodes if _large_enough(gang, node)]
    if not large:
        sizes = ", ".join(f"{size} {name}" for name, size in gang.requests.items())
        return Finding(
            "warn",
            f"{len(nodes)} now, and none is large enough",
            sizes,
            "lower the requests in the profile, or take larger machines",
        )
    if not gang.gpu:
        return Finding("ok", f"{len(large)} now")
    return _driver(large)


def _driver(nodes: list[dict[str, Any]]) -> Finding:
    wanted = f"driver {OLDEST_DRIVER} or newer: the images are built for CUDA 13"
    drivers = {_name(node): node["metadata"]["labels"].get(DRIVER_LABEL) for node in nodes}
    old = [f"{name} ({d})" for name, d in drivers.items() if d and int(d) < OLDEST_DRIVER]
    if old:
        mend = "a newer node image or driver, see docs/guides/kubernetes.md"
        return Finding("fail", f"too old a driver on {', '.join(old)}", wanted, mend)
    if None in drivers.values():
        mend = "install NVIDIA's GPU feature discovery, or run tspin doctor in a pod on such a node"
        detail = f"{len(nodes)} now; cannot tell their driver: no label {DRIVER_LABEL}"
        return Finding("warn", detail, wanted, mend)
    versions = sorted({str(driver) for driver in drivers.values()})
    return Finding("ok", f"{len(nodes)} now, driver {', '.join(versions)}")


def _takes(gang: Gang, node: dict[str, Any]) -> bool:
    labels, taints = node["metadata"].get("labels", {}), node["spec"].get("taints", ())
    return gang.placement.takes(labels, taints)


def _large_enough(gang: Gang, node: dict[str, Any]) -> bool:
    sizes = node["status"]["allocatable"]
    return all(
        parse_quantity(sizes.get(name, 0)) >= parse_quantity(size)
        for name, size in gang.requests.items()
    )


def _name(node: dict[str, Any]) -> str:
    return str(node["metadata"]["name"])
