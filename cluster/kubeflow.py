"""What Kubeflow and its neighbours are set to: APIs, retries, where artifacts go."""

from __future__ import annotations

import json
from typing import Any

import yaml
from kubernetes.utils import parse_quantity

from tspin.machine.check import gib
from tspin_cluster.finding import Finding
from tspin_cluster.needs import Needs
from tspin_cluster.reader import AbsentError, ForbiddenError, Reader
from tspin_cluster.space import KUBEFLOW, apply

__all__ = ["check_api", "check_retries", "check_root", "check_runtime", "check_version"]

_PATCH = "COMPILED_PIPELINE_SPEC_PATCH"
_STORE_CLAIM = "seaweedfs-pvc"
_DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
"""Of Kubeflow's launcher (backend/src/v2/config/env.go, 2.17)."""


def check_version(reader: Reader) -> Finding:
    """Whether the API answers, and which Kubernetes it is."""
    return Finding("ok", str(reader.get("/version")["gitVersion"]))


def check_api(reader: Reader, api: str, what: str) -> Finding:
    """Whether a kind of objects is known here, in the version that is used.

    Args:
        reader: Of the cluster.
        api: Group and version.
        what: Whose it is.
    """
    group, _, version = api.partition("/")
    try:
        versions = [entry["version"] for entry in reader.get(f"/apis/{group}")["versions"]]
    except AbsentError:
        return Finding("fail", f"there is no {group}", api, f"install {what}")
    if version not in versions:
        return Finding("fail", f"has {', '.join(versions)}", api, f"install a newer {what}")
    return Finding("ok", api)


def check_runtime(reader: Reader, needs: Needs) -> Finding:
    """Whether the TrainingRuntime that trains on several nodes is there."""
    kind = "trainer.kubeflow.org/v1alpha1/trainingruntimes"
    try:
        reader.named(needs.namespace, kind, needs.runtime or "")
    except AbsentError:
        return Finding("fail", f"there is no '{needs.runtime}'", "", apply(needs))
    return Finding("ok", str(needs.runtime))


def check_retries(reader: Reader) -> Finding:
    """Which failures are tried again, and of which templates.

    The API server's patch is part of each Workflow, and Argo merges its own defaults below that
    (`MergeTo` in workflow/util/merge.go, 4.0). What results is merged below every template, those
    of graphs included (`mergedTemplateDefaultsInto` in workflow/controller/operator.go): with a
    limit above 0 in it, each level of a graph would try its failing task again, and again.
    """
    try:
        patch = _patch(reader)
        effective = {**_retry(_defaults(reader)), **_retry(patch)}
    except (AttributeError, TypeError, ValueError, yaml.YAMLError):
        detail = f"{_PATCH} of deployment ml-pipeline, or workflowDefaults, is no workflow's spec"
        return Finding("fail", detail, "an object of JSON", "look at both")
    policy, limit = effective.get("retryPolicy", "OnFailure"), effective.get("limit")
    mended = dict(patch)
    mended["templateDefaults"] = {
        **patch.get("templateDefaults", {}),
        "retryStrategy": {**_retry(patch), "retryPolicy": "Always", "limit": "0"},
    }
    text = json.dumps(mended, separators=(",", ":"))
    mend = f"kubectl -n {KUBEFLOW} set env deployment/ml-pipeline '{_PATCH}={text}'"
    wanted = "retryPolicy Always, and limit 0 for what asks for no retries"
    if policy != "Always":
        lost = "pods that fail, such as on a drained node" if policy == "OnError" else "lost pods"
        return Finding("warn", f"retryPolicy is {policy}: {lost} end the run", wanted, mend)
    if limit is not None and str(limit) != "0":
        detail = f"limit is {limit} for every template: each level of a graph repeats its tasks"
        return Finding("warn", detail, wanted, mend)
    return Finding("ok", "every failure of a task that asks for retries, and no other")


def _patch(reader: Reader) -> dict[str, Any]:
    """The API server's patch of each workflow's spec."""
    deployment = reader.named(KUBEFLOW, "apps/v1/deployments", "ml-pipeline")
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for variable in container.get("env", ()):
            if variable["name"] == _PATCH and variable.get("value"):
                patch: dict[str, Any] = json.loads(variable["value"])
                return patch
    return {}


def _defaults(reader: Reader) -> dict[str, Any]:
    """The spec that Argo's controller puts below each workflow's."""
    data = reader.named(KUBEFLOW, "configmaps", "workflow-controller-configmap").get("data", {})
    # One key a setting, or all of them in one.
    settings = yaml.safe_load(data.get("config", "")) or {}
    defaults = yaml.safe_load(data.get("workflowDefaults", "")) or settings.get("workflowDefaults")
    spec: dict[str, Any] = (defaults or {}).get("spec") or {}
    return spec


def _retry(spec: dict[str, Any]) -> dict[str, Any]:
    strategy: dict[str, Any] = spec.get("templateDefaults", {}).get("retryStrategy", {})
    return strategy


def check_root(reader: Reader, needs: Needs) -> Finding:
    """Where artifacts go, and whether the models of a run have room there."""
    try:
        data = reader.named(needs.namespace, "configmaps", "kfp-launcher").get("data", {})
    except AbsentError:
        data = {}
    root = data.get("defaultPipelineRoot") or _DEFAULT_ROOT
    providers = yaml.safe_load(data.get("providers", "")) or {}
    if not root.startswith("minio://") or providers.get("minio"):
        return Finding("ok", root)
    mend = (
        f"set defaultPipelineRoot in k8s/overlays/{needs.overlay}/artifacts.yaml to a bucket of "
        "your own, and apply it"
    )
    detail = f"{root}, Kubeflow's own store"
    wanted = "room for every model of every run"
    try:
        claim = reader.named(KUBEFLOW, "persistentvolumeclaims", _STORE_CLAIM)
    except (AbsentError, ForbiddenError):
        return Finding("warn", f"{detail}; cannot tell its size", wanted, mend)
    spec = claim["spec"]["resources"]["requests"]["storage"]
    size = claim.get("status", {}).get("capacity", {}).get("storage", spec)
    if needs.artifact_bytes is None:
        unknown = "a run's models are of unknown size (--config, where the model can be read)"
        return Finding("warn", f"{detail} of {size}; {unknown}", wanted, mend)
    run = f"{gib(needs.artifact_bytes)} of models a run"
    fits = needs.artifact_bytes < parse_quantity(size)
    return Finding("warn" if fits else "fail", f"{detail} of {size}; {run}", wanted, mend)
