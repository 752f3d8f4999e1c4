"""The namespace and what stands in it: account, claims, Secrets, ConfigMaps."""

from __future__ import annotations

from tspin_cluster.finding import Finding
from tspin_cluster.needs import Claim, Keys, Needs
from tspin_cluster.reader import AbsentError, Reader

__all__ = ["KUBEFLOW", "apply", "check_account", "check_claim", "check_keys", "check_namespace"]

KUBEFLOW = "kubeflow"
"""Kubeflow's own namespace. Where it is that of one user alone, runs are in it, too."""

_PART_OF = "app.kubernetes.io/part-of"
_PROFILE = "kubeflow-profile"
_ENFORCED = "pod-security.kubernetes.io/enforce"


def apply(needs: Needs) -> str:
    """The command that makes what the overlay holds."""
    return f"kubectl apply -k k8s/overlays/{needs.overlay}"


def check_namespace(reader: Reader, needs: Needs) -> Finding:
    """Whether it is there, let in by Kubeflow's network policies, and refuses root."""
    if needs.namespace == KUBEFLOW:  # It has neither profiles nor policies that keep pods apart.
        return Finding("ok", f"{KUBEFLOW}, of a Kubeflow Pipelines for one user")
    wanted = f"a namespace with {_PART_OF}={_PROFILE} and {_ENFORCED}=restricted"
    try:
        labels = reader.get(f"/api/v1/namespaces/{needs.namespace}")["metadata"].get("labels", {})
    except AbsentError:
        mend = f"apply Kubeflow's Profile '{needs.namespace}', then {apply(needs)}"
        return Finding("fail", f"there is no namespace '{needs.namespace}'", wanted, mend)
    if labels.get(_PART_OF) != _PROFILE:
        detail = (
            f"{needs.namespace} has {_PART_OF}={labels.get(_PART_OF, '')}: Kubeflow's network "
            "policies let none of its pods reach the artifact store"
        )
        mend = f"kubectl label --overwrite namespace {needs.namespace} {_PART_OF}={_PROFILE}"
        return Finding("fail", detail, wanted, mend)
    if labels.get(_ENFORCED) != "restricted":
        level = labels.get(_ENFORCED, "nothing")
        mend = f"kubectl label --overwrite namespace {needs.namespace} {_ENFORCED}=restricted"
        detail = f"{needs.namespace} enforces {level}: pods in it may run as root"
        return Finding("warn", detail, wanted, mend)
    return Finding("ok", f"{needs.namespace}, part of {_PROFILE}, restricted")


def check_account(reader: Reader, needs: Needs) -> Finding:
    """Whether the service account of the tasks is there."""
    name = needs.service_account
    try:
        reader.named(needs.namespace, "serviceaccounts", name)
    except AbsentError:
        return Finding("fail", f"there is no service account '{name}'", "", apply(needs))
    return Finding("ok", name)


def check_claim(reader: Reader, needs: Needs, claim: Claim) -> Finding:
    """Whether a claim has its volume, and whether as many nodes may mount it as will.

    Args:
        reader: Of the cluster.
        needs: Of the profile.
        claim: One of them.
    """
    try:
        found = reader.named(needs.namespace, "persistentvolumeclaims", claim.name)
    except AbsentError:
        return Finding("fail", "there is no such claim", "", apply(needs))
    phase = found.get("status", {}).get("phase", "Pending")
    modes = found.get("status", {}).get("accessModes") or found["spec"]["accessModes"]
    if claim.shared and "ReadWriteMany" not in modes:
        return Finding(
            "fail",
            f"{phase}, {', '.join(modes)}: one node mounts it, and tasks run on several",
            "ReadWriteMany",
            "delete the claim, and make it again with a storage class that several nodes may mount",
        )
    if phase == "Bound" or (phase == "Pending" and _waits(reader, found)):
        told = phase if phase == "Bound" else "waits for its first pod"
        return Finding("ok", f"{told}, {', '.join(modes)}")
    mend = f"kubectl -n {needs.namespace} describe pvc {claim.name}"
    return Finding("fail", f"{phase}: it has no volume", "Bound", mend)


def _waits(reader: Reader, claim: dict[str, object]) -> bool:
    """Whether its volume is only made when a pod says on which node."""
    spec = claim["spec"]
    name = spec.get("storageClassName") if isinstance(spec, dict) else None
    if not name:
        return False
    try:
        kind = reader.get(f"/apis/storage.k8s.io/v1/storageclasses/{name}")
    except AbsentError:
        return False
    return bool(kind.get("volumeBindingMode") == "WaitForFirstConsumer")


def check_keys(reader: Reader, needs: Needs, kind: str, keys: Keys) -> Finding:
    """Whether a Secret or ConfigMap has the keys that tasks take; values are never looked at.

    Args:
        reader: Of the cluster.
        needs: Of the profile.
        kind: `secrets` or `configmaps`.
        keys: Its name and its keys.
    """
    wanted = f"the keys {', '.join(keys.keys)}"
    mend = apply(needs)
    if kind == "secrets":
        mend = (
            f"kubectl -n {needs.namespace} get externalsecrets {keys.name}; without the operator: "
            f"kubectl -n {needs.namespace} create secret generic {keys.name} "
            + " ".join(f"--from-file={key}=FILE" for key in keys.keys)
        )
    try:
        found = reader.named(needs.namespace, kind, keys.name)
    except AbsentError:
        if keys.optional:
            return Finding("ok", "not there; tasks do without it")
        return Finding("fail", "there is none: pods wait for it and never start", wanted, mend)
    names = {*found.get("data", {}), *found.get("binaryData", {})}
    missing = [key for key in keys.keys if key not in names]
    if missing and not keys.optional:
        return Finding("fail", f"has no {', '.join(missing)}", wanted, mend)
    there = [key for key in keys.keys if key in names]
    return Finding("ok", f"has {', '.join(there) or 'none of its optional keys'}")
