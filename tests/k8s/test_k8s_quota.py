"""What ResourceQuota and LimitRange would refuse, asked of every pod as admission would ask it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from rendered import OVERLAYS, Document, named, of_kind, overlay, pod_templates

from tspin_pipelines.profiles.profile import load_profile, profile_names
from tspin_pipelines.profiles.quantity import in_units
from tspin_pipelines.profiles.stage import Stage

COUNTED = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu")
STAGES = [
    (name, stage)
    for name in profile_names()
    for stage in ("generate", "train", "evaluate", "light", "transfer")
]


def refused(documents: list[Document], pod: Document) -> list[str]:
    """Why the API server would not let a pod into the namespace while nothing else runs."""
    hard = named(documents, "ResourceQuota", "tspin")["spec"]["hard"]
    pod = _defaulted(documents, pod)
    found = list(_unordered(pod))
    for limited, amount in hard.items():
        side, _, resource = limited.partition(".")
        if side not in ("requests", "limits") or resource == "storage":
            continue
        every = [*pod.get("initContainers", []), *pod["containers"]]
        if resource in ("cpu", "memory"):  # A quota on these has to be met by each container.
            found += [
                f"{container['name']} must specify {limited}"
                for container in every
                if resource not in container["resources"].get(side, {})
            ]
        asked = _effective(pod, side, resource)
        if asked > in_units(amount):
            found.append(f"exceeded quota: {limited} {asked} of {amount}")
    return found


def _defaulted(documents: list[Document], pod: Document) -> Document:
    """As the LimitRange and the server leave it."""
    pod = copy.deepcopy(pod)
    (limits,) = [
        limit
        for limit in named(documents, "LimitRange", "tspin")["spec"]["limits"]
        if limit["type"] == "Container"
    ]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        resources = container.setdefault("resources", {})
        given = resources.setdefault("limits", {})
        asked = resources["requests"] = {**given, **resources.get("requests", {})}
        for resource in ("cpu", "memory"):
            asked.setdefault(resource, limits["defaultRequest"][resource])
            given.setdefault(resource, limits["default"][resource])
    return pod


def _unordered(pod: Document) -> Iterator[str]:
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        requests, limits = (container["resources"][side] for side in ("requests", "limits"))
        for resource in COUNTED:
            if resource in limits and in_units(requests[resource]) > in_units(limits[resource]):
                yield f"{container['name']} requests more {resource} than its limit"


def _effective(pod: Document, side: str, resource: str) -> Decimal:
    """Init containers run one after another, before the others, which run together."""

    def asked(container: Document) -> Decimal:
        return in_units(container["resources"].get(side, {}).get(resource, "0"))

    before = max(map(asked, pod.get("initContainers", [])), default=Decimal(0))
    return max(before, sum(map(asked, pod["containers"]), Decimal(0)))


def task_pod(stage: Stage) -> Document:
    """A pipeline's pod: our container between those of Kubeflow and Argo, which name nothing."""
    gpus: dict[str, Any] = {}
    if stage.accelerator is not None:
        gpus = {stage.accelerator.resource: str(stage.accelerator.count)}
    return {
        "initContainers": [{"name": "init"}, {"name": "kfp-launcher"}],
        "containers": [
            {
                "name": "main",
                "resources": {
                    "requests": {"cpu": stage.cpu.request, "memory": stage.memory.request},
                    "limits": {"cpu": stage.cpu.limit, "memory": stage.memory.limit, **gpus},
                },
            },
            {"name": "wait"},
        ],
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_let_in(name: str) -> None:
    documents = overlay(name)
    templates = list(pod_templates(documents))
    assert len(templates) == (3 if name == "kind-cpu" else 4)
    for where, template in templates:
        assert refused(documents, template["spec"]) == [], where


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_every_task_of_a_pipeline_is_let_in(name: str, stage: str) -> None:
    profile = load_profile(name)
    pod = task_pod(getattr(profile.stages, stage))
    assert refused(overlay(profile.overlay), pod) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_claims_fit(name: str) -> None:
    documents = overlay(name)
    claims = [
        in_units(claim["spec"]["resources"]["requests"]["storage"])
        for claim in of_kind(documents, "PersistentVolumeClaim")
    ]
    assert len(claims) == 2
    hard = named(documents, "ResourceQuota", "tspin")["spec"]["hard"]
    (largest,) = [
        in_units(limit["max"]["storage"])
        for limit in named(documents, "LimitRange", "tspin")["spec"]["limits"]
        if limit["type"] == "PersistentVolumeClaim"
    ]
    assert max(claims) <= largest
    assert sum(claims) <= in_units(hard["requests.storage"])
    assert len(claims) <= int(hard["persistentvolumeclaims"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda pod: pod["initContainers"][0].update(resources={"limits": {"cpu": "1700"}}),
            "exceeded quota: limits.cpu",
        ),
        (
            lambda pod: pod["containers"][0]["resources"]["limits"].update(
                {"nvidia.com/gpu": "64"}
            ),
            "exceeded quota: requests.nvidia.com/gpu 64 of 42",
        ),
        (
            lambda pod: pod["containers"][0]["resources"]["limits"].pop("cpu"),
            "main requests more cpu than its limit",
        ),
    ],
)
def test_what_admission_refuses_is_found(change: Any, expected: str) -> None:
    pod = task_pod(load_profile("gke-h100").stages.train)
    change(pod)
    assert expected in "; ".join(refused(overlay("gke"), pod))
