"""What a node of each pool looks like: from the manifests, and from what the scripts ask for.

The scripts run with a stand-in for the cloud's command that writes down how it was called.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rendered import K8S, Document, of_kind, render

Taint = tuple[str, str, str]

MACHINES = {
    "a3-highgpu-1g": (26, 234, 1),
    "a3-highgpu-8g": (208, 1872, 8),
    "g6.4xlarge": (16, 64, 1),
    "g6.8xlarge": (32, 128, 1),
    "g6.12xlarge": (48, 192, 4),
    "g6.24xlarge": (96, 384, 4),
    "m6id.2xlarge": (8, 32, 0),
    "m5d.2xlarge": (8, 32, 0),
    "n2-standard-8": (8, 32, 0),
    "Standard_D8ds_v5": (8, 32, 0),
    "Standard_NC24ads_A100_v4": (24, 220, 1),
    "Standard_NC96ads_A100_v4": (96, 880, 4),
    "onprem": (64, 512, 4),  # the smallest machine that the profile is written for
}
"""Cores, GiB of memory and GPUs, as the clouds list them."""


@dataclass(frozen=True)
class Pool:
    name: str
    labels: dict[str, str]
    taints: frozenset[Taint]
    product: str
    machines: tuple[str, ...]
    spot: bool
    minimum: int
    """Nodes that are kept when nothing runs."""


RECORD = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def calls(script: str, command: str, *arguments: str) -> list[list[str]]:
    """How a script calls a command."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        stand_in = Path(folder) / command
        stand_in.write_text(RECORD.format(python=sys.executable, log=str(log)))
        stand_in.chmod(0o755)
        path = f"{folder}:{os.environ['PATH']}"
        subprocess.run(
            [K8S / "pools" / script, *arguments], check=True, env={**os.environ, "PATH": path}
        )
        return [json.loads(line) for line in log.read_text().splitlines()]


def options(call: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    key = ""
    for word in call:
        if word.startswith("--"):
            key = word
            found[key] = []
        else:
            found.setdefault(key, []).append(word)
    return found


def taint(text: str) -> Taint:
    pair, effect = text.rsplit(":", 1)
    key, value = pair.split("=")
    return key, value, effect


def labels(pairs: list[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)


def karpenter_pool(document: Document) -> Pool:
    template = document["spec"]["template"]
    node = dict(template["metadata"]["labels"])
    wanted = {r["key"]: r["values"] for r in template["spec"]["requirements"]}
    node |= {key: values[0] for key, values in wanted.items() if len(values) == 1}
    return Pool(
        name=document["metadata"]["name"],
        labels=node,
        taints=frozenset((t["key"], t["value"], t["effect"]) for t in template["spec"]["taints"]),
        product=node.get("tspin.io/accelerator", ""),
        machines=tuple(wanted["node.kubernetes.io/instance-type"]),
        spot=wanted["karpenter.sh/capacity-type"] == ["spot"],
        minimum=0,  # Karpenter keeps no empty node
    )


def compute_class(document: Document) -> Pool:
    name, spec = document["metadata"]["name"], document["spec"]
    assert spec["nodePoolAutoCreation"]["enabled"]
    gpus = {priority["gpu"]["type"] for priority in spec["priorities"] if "gpu" in priority}
    product = next(iter(gpus), "")
    assert len(gpus) <= 1
    return Pool(
        name=name,
        labels={"cloud.google.com/compute-class": name},  # GKE sets both on each node
        taints=gke_taints(product, ("cloud.google.com/compute-class", name, "NoSchedule")),
        product=product,
        machines=tuple(priority["machineType"] for priority in spec["priorities"]),
        spot=all(priority["spot"] for priority in spec["priorities"]),
        minimum=0,
    )


def gke_taints(product: str, *own: Taint) -> frozenset[Taint]:
    gpu = [("nvidia.com/gpu", "present", "NoSchedule")] if product else []
    return frozenset([*gpu, *own])


def gcloud_pool(call: list[str]) -> Pool:
    name = call[call.index("create") + 1]
    asked = options(call)
    accelerator = labels(asked.get("--accelerator", ["type="])[0].split(","))
    assert accelerator.get("gpu-driver-version", "latest") == "latest"
    return Pool(
        name=name,
        labels=labels(asked["--node-labels"]),
        taints=gke_taints(accelerator["type"], *map(taint, asked["--node-taints"])),
        product=accelerator["type"],
        machines=tuple(asked["--machine-type"]),
        spot="--spot" in asked,
        minimum=int(asked["--total-min-nodes"][0]),
    )


def az_pool(call: list[str]) -> Pool:
    asked = options(call)
    spot = asked.get("--priority") == ["Spot"]
    taints = set(map(taint, asked["--node-taints"]))
    if spot:
        taints.add(("kubernetes.azure.com/scalesetpriority", "spot", "NoSchedule"))
    node = labels(asked["--labels"])
    return Pool(
        name=asked["--name"][0],
        labels=node,
        taints=frozenset(taints),
        product=node.get("tspin.io/accelerator", ""),
        machines=tuple(asked["--node-vm-size"]),
        spot=spot,
        minimum=int(asked["--min-count"][0]),
    )


def assigned_pool(name: str) -> Pool:
    accelerator = "none" if name == "transfer" else "nvidia-a100-80gb"
    label, tainted = calls("onprem/assign.sh", "kubectl", name, accelerator, "gpu-01", "gpu-02")
    assert label[:2] == ["label", "node"] and tainted[:2] == ["taint", "node"]
    assert {"gpu-01", "gpu-02"} < set(label) and {"gpu-01", "gpu-02"} < set(tainted)
    node = labels([word for word in label if "=" in word])
    taints = frozenset(taint(word) for word in tainted if "=" in word)
    product = "" if accelerator == "none" else node["tspin.io/accelerator"]
    return Pool(name, node, taints, product, ("onprem",), False, 1)


@functools.cache
def pools(overlay: str) -> tuple[Pool, ...]:
    """The GPU pools of the cluster that an overlay is for."""
    if overlay == "eks":
        return tuple(map(karpenter_pool, of_kind(render("pools/eks"), "NodePool")))
    if overlay == "gke":
        return tuple(map(compute_class, of_kind(render("pools/gke"), "ComputeClass")))
    if overlay == "aks":
        return tuple(map(az_pool, calls("aks/create.sh", "az", "group", "cluster")))
    if overlay == "onprem":
        return tuple(map(assigned_pool, ("generate", "train", "evaluate", "transfer")))
    return ()
