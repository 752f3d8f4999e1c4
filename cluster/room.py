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
    lent = _cohort(reader, spec.get("cohortName"))
    mend = f"raise nominalQuota in k8s/overlays/{needs.overlay}/queue.yaml, and apply it"
    uncovered, chosen = dict(gang.together()), []
    for group in spec.get("resourceGroups", ()):
        asked = {key: uncovered.pop(key) for key in group["coveredResources"] if key in uncovered}
        if not asked:
            continue
        lacks = _lacks(reader, group["flavors"], gang, asked, lent)
        fitting = [flavor for flavor, lack in lacks.items() if not lack]
        if not fitting:
            reason = "; ".join(lacks.values()) or "no flavor has the labels of its nodes"
            wanted = f"a flavor with {_told(asked)} for {gang.pods} pods"
            return Finding("fail", f"ClusterQueue {name}: {reason}", wanted, mend)
        chosen.append(" or ".join(fitting))
    if uncovered:
        detail = f"ClusterQueue {name} has no quota for {', '.join(uncovered)}"
        return Finding("fail", f"{detail}: Kueue admits nothing that asks for it", "", mend)
    return Finding("ok", f"{_told(gang.together())} from {', '.join(chosen)}")


def _local_queue(reader: Reader, needs: Needs) -> dict[str, Any]:
    return reader.named(needs.namespace, f"{KUEUE}/localqueues", needs.queue or "")


def _cohort(reader: Reader, cohort: str | None) -> dict[tuple[str, str], Decimal]:
    """What the ClusterQueues of a cohort have together, by flavor and resource."""
    sums: dict[tuple[str, str], Decimal] = {}
    if cohort is None:
        return sums
    for queue in reader.get(f"/apis/{KUEUE}/clusterqueues")["items"]:
        if queue["spec"].get("cohortName") == cohort:
            for group in queue["spec"].get("resourceGroups", ()):
                for flavor in group["flavors"]:
                    for quota in flavor["resources"]:
                        key = (flavor["name"], quota["name"])
                        sums[key] = sums.get(key, Decimal(0)) + _nominal(quota)
    return sums


def _lacks(
    reader: Reader,
    flavors: list[dict[str, Any]],
    gang: Gang,
    asked: Mapping[str, Decimal],
    lent: Mapping[tuple[str, str], Decimal],
) -> dict[str, str]:
    """What each flavor lacks that takes the stage's pods; '' where it lacks nothing."""
    lacks = {}
    for flavor in flavors:
        name = flavor["name"]
        try:
            spec = reader.get(f"/apis/{KUEUE}/resourceflavors/{name}").get("spec", {})
        except AbsentError:
            lacks[name] = f"there is no ResourceFlavor '{name}'"
            continue
        labels, taints = spec.get("nodeLabels", {}), spec.get("nodeTaints", ())
        if not gang.placement.takes(labels, taints, known=False):
            continue
        quotas = {quota["name"]: quota for quota in flavor["resources"]}
        most = {key: _most(quotas[key], lent.get((name, key))) for key in asked}
        short = {key: size for key, size in most.items() if size < asked[key]}
        lacks[name] = f"flavor {name} has {_told(short)}" if short else ""
    return lacks


def _nominal(quota: Mapping[str, Any]) -> Decimal:
    size: Decimal = parse_quantity(quota["nominalQuota"])
    return size


def _most(quota: Mapping[str, Any], lent: Decimal | None) -> Decimal:
    """What one flavor gives at most of a resource, with what the cohort has and may be borrowed."""
    own = _nominal(quota)
    if lent is None:
        return own
    limit = quota.get("borrowingLimit")
    return lent if limit is None else min(lent, own + parse_quantity(limit))


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
                wanted = f"{_told({key: size})} for stage {gang.stage}"
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
        text = f"{size / 2**30:.4g}Gi" if name.endswith("memory") else f"{size.normalize():f}"
        texts.append(f"{text} {name}")
    return ", ".join(texts)
