"""Whether a stage could ever start: Kueue's queue, its quota, the namespace's own."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kubernetes.utils import parse_quantity

from tspin_cluster.finding import Finding
from tspin_cluster.needs import Gang, Needs
from tspin_cluster.reader import AbsentError, Reader
from tspin_cluster.space import apply

__all__ = ["check_flavors", "check_priority", "check_queue", "check_quotas"]

KUEUE = "kueue.x-k8s.io/v1beta2"


def check_queue(reader: Reader, needs: Needs) -> Finding:
    """Whether the LocalQueue lets work through, and so the ClusterQueue behind it."""
    try:
        queue = _local_queue(reader, needs)
    except AbsentError:
        detail = f"there is no LocalQueue '{needs.queue}': tasks would wait for ever"
        return Finding("fail", detail, "", apply(needs))
    behind = queue["spec"]["clusterQueue"]
    for condition in queue.get("status", {}).get("conditions", ()):
        if condition["type"] == "Active" and condition["status"] == "True":
            return Finding("ok", f"{needs.queue} goes into ClusterQueue {behind}, active")
        if condition["type"] == "Active":
            mend = f"kubectl get clusterqueue {behind} -o jsonpath='{{.status.conditions}}'"
            detail = f"{needs.queue} is not active: {condition.get('message', 'no reason given')}"
            return Finding("fail", detail, "Active", mend)
    mend = "kubectl -n kueue-system get pods"
    return Finding("fail", f"{needs.queue} has no state: Kueue does not run", "Active", mend)


def check_priority(reader: Reader, needs: Needs, name: str) -> Finding:
    """Whether a WorkloadPriorityClass is there: Kueue admits nothing that names a missing one.

    Args:
        reader: Of the cluster.
        needs: Of the profile.
        name: Of the class.
    """
    try:
        found = reader.get(f"/apis/{KUEUE}/workloadpriorityclasses/{name}")
    except AbsentError:
        mend = f"kubectl apply -k k8s/cluster/{needs.overlay}"
        return Finding("fail", "there is no such WorkloadPriorityClass", "", mend)
    return Finding("ok", f"value {found['value']}")


def check_flavors(reader: Reader, needs: Needs, gang: Gang) -> Finding:
    """Whether the ClusterQueue has a flavor for a stage's nodes, with quota for all its pods.

    Args:
        reader: Of the cluster.
        needs: Of the profile.
        gang: The stage.
    """
    name = _local_queue(reader, needs)["spec"]["clusterQueue"]
    spec = reader.get(f"/apis/{KUEUE}/clusterqueues/{name}")["spec"]
    mend = f"raise nominalQuota in k8s/overlays/{needs.overlay}/queue.yaml, and apply it"
    uncovered, chosen = dict(gang.together()), []
    for group in spec.get("resourceGroups", ()):
        asked = {key: uncovered.pop(key) for key in group["coveredResources"] if key in uncovered}
        if not asked:
            continue
        fitting, tight = _fitting(reader, group["flavors"], gang, asked, "cohortName" in spec)
        if not fitting:
            reason = "; ".join(tight) or "no flavor has the labels and taints of its nodes"
            wanted = f"a flavor with {_told(asked)} for {gang.pods} pods"
            return Finding("fail", f"ClusterQueue {name}: {reason}", wanted, mend)
        chosen.append(" or ".join(fitting))
    if uncovered:
        detail = f"ClusterQueue {name} has no quota for {', '.join(uncovered)}"
        return Finding("fail", f"{detail}: Kueue admits nothing that asks for it", "", mend)
    return Finding("ok", f"{_told(gang.together())} from {', '.join(chosen)}")


def _local_queue(reader: Reader, needs: Needs) -> dict[str, Any]:
    return reader.named(needs.namespace, f"{KUEUE}/localqueues", needs.queue or "")


def _fitting(
    reader: Reader,
    flavors: list[dict[str, Any]],
    gang: Gang,
    asked: Mapping[str, Decimal],
    cohort: bool,
) -> tuple[list[str], list[str]]:
    """The flavors that take the stage: those with room for it, and what the others lack."""
    fitting, tight = [], []
    for flavor in flavors:
        name = flavor["name"]
        try:
            spec = reader.get(f"/apis/{KUEUE}/resourceflavors/{name}").get("spec", {})
        except AbsentError:
            tight.append(f"there is no ResourceFlavor '{name}'")
            continue
        labels, taints = spec.get("nodeLabels", {}), spec.get("nodeTaints", ())
        if not gang.placement.takes(labels, taints, known=False):
            continue
        quotas = {resource["name"]: resource for resource in flavor["resources"]}
        short = {key: quotas[key] for key, size in asked.items() if _most(quotas[key]) < size}
        if not short:
            fitting.append(name)
        elif cohort and all("borrowingLimit" not in quota for quota in short.values()):
            fitting.append(f"{name} (what the cohort lends counted in)")
        else:
            sizes = ", ".join(f"{_most(quota):f} {key}" for key, quota in short.items())
            tight.append(f"flavor {name} has {sizes}")
    return fitting, tight


def _most(quota: Mapping[str, Any]) -> Decimal:
    """What one flavor gives at most of a resource, with what it may borrow."""
    most: Decimal = parse_quantity(quota["nominalQuota"])
    borrowed: Decimal = parse_quantity(quota.get("borrowingLimit", 0))
    return most + borrowed


def check_quotas(reader: Reader, needs: Needs) -> Finding:
    """Whether the ResourceQuotas of the namespace admit all pods of each stage at one time."""
    quotas = reader.named(needs.namespace, "resourcequotas", "")["items"]
    mend = f"raise it in k8s/overlays/{needs.overlay}, and apply it"
    full = []
    for quota in quotas:
        name = quota["metadata"]["name"]
        hard = quota.get("status", {}).get("hard") or quota["spec"].get("hard", {})
        used = quota.get("status", {}).get("used", {})
        for gang in needs.gangs:
            for key, size in gang.quota().items():
                if key not in hard:
                    continue
                most, taken = parse_quantity(hard[key]), parse_quantity(used.get(key, 0))
                wanted = f"{key} of {size:f} for stage {gang.stage}"
                if size > most:
                    return Finding("fail", f"{name}: {key} is {hard[key]}", wanted, mend)
                if size > most - taken:
                    full.append(f"{name}: {key} is {hard[key]}, {used[key]} in use; {wanted}")
    if full:
        return Finding("warn", "; ".join(full), "", "wait until others are done, or raise it")
    names = ", ".join(quota["metadata"]["name"] for quota in quotas)
    return Finding("ok", f"{names}: enough for each stage" if names else "there are none")


def _told(sizes: Mapping[str, Decimal]) -> str:
    texts = []
    for name, size in sizes.items():
        text = f"{size / 2**30:.4g}Gi" if name == "memory" else f"{size.normalize():f}"
        texts.append(f"{text} {name}")
    return ", ".join(texts)
