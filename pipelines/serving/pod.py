"""The parts of a pod that a profile decides: where it runs, as whom, with what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tspin_cluster.placement import Match
from tspin_pipelines.profiles.network import CERTIFICATES, PROXY, TRUST
from tspin_pipelines.profiles.profile import Profile
from tspin_pipelines.profiles.stage import Stage

__all__ = [
    "CONTAINER",
    "Object",
    "environment",
    "identity",
    "mounts",
    "nodes",
    "shared_memory",
    "volumes",
]

Object = dict[str, Any]

CONTAINER: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Security of every container that is all ours."""

_WRITABLE = {"/cache": "cache", "/tmp": "tmp"}  # noqa: S108  (the pod's own)


def identity(profile: Profile) -> Object:
    """Account, user and pull secrets: what the restricted standard asks of a pod."""
    user = profile.user
    return {
        "serviceAccountName": profile.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_given("imagePullSecrets", [{"name": name} for name in profile.images.pull_secrets]),
    }


def nodes(stage: Stage) -> Object:
    """Selector, tolerations and affinity."""
    required, preferred = stage.affinity.required, stage.affinity.preferred
    affinity = {
        **_given(
            "requiredDuringSchedulingIgnoredDuringExecution",
            {"nodeSelectorTerms": [_term(required)]} if required else None,
        ),
        **_given(
            "preferredDuringSchedulingIgnoredDuringExecution",
            [{"weight": one.weight, "preference": _term(one.match)} for one in preferred],
        ),
    }
    tolerations = [taint.model_dump(mode="json", exclude_none=True) for taint in stage.tolerations]
    return {
        **_given("nodeSelector", dict(stage.node_selector)),
        **_given("tolerations", tolerations),
        **_given("affinity", {"nodeAffinity": affinity} if affinity else None),
    }


def environment(profile: Profile, stage: Stage, *, plain: bool = True) -> list[Object]:
    """Variables of a container: the stage's own, those of Secrets and ConfigMaps by reference.

    Args:
        profile: Whose proxy and certificates count.
        stage: Of the profile.
        plain: Whether the stage's own are among them, which name folders of its volumes.
    """
    own = [{"name": name, "value": value} for name, value in stage.env.items()] if plain else []
    if profile.ca_bundle is not None:
        own += [{"name": name, "value": f"{CERTIFICATES}/ca.crt"} for name in TRUST]
    referred = [
        {"name": variable, "valueFrom": {kind: _reference(source.name, key, source.optional)}}
        for kind, sources in (
            ("secretKeyRef", stage.secrets),
            ("configMapKeyRef", stage.config_maps),
        )
        for source in sources
        for key, variable in source.keys.items()
    ]
    if profile.proxy is not None:
        referred += [
            {"name": name, "valueFrom": {"configMapKeyRef": _reference(profile.proxy, name, True)}}
            for name in PROXY
        ]
    return [*own, *referred]


def volumes(profile: Profile) -> list[Object]:
    """Claims of the stages that a pod's containers are of, room to write, certificates."""
    found = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        for claim, name in _claims(profile).items()
    ]
    mounted = {mount["name"] for stage in _stages(profile) for mount in mounts(profile, stage)}
    found += [{"name": name, "emptyDir": {}} for name in _WRITABLE.values() if name in mounted]
    if profile.ca_bundle is not None:
        bundle: Object = {"name": profile.ca_bundle, "optional": True}
        found.append({"name": "certificates", "configMap": bundle})
    return found


def mounts(profile: Profile, stage: Stage) -> list[Object]:
    """Where a container of a stage has what `volumes` names."""
    claims = _claims(profile)
    found: list[Object] = [
        {"name": claims[one.claim], "mountPath": one.path} for one in stage.volumes
    ]
    taken = {one.path for one in stage.volumes}
    found += [{"name": name, "mountPath": at} for at, name in _WRITABLE.items() if at not in taken]
    if profile.ca_bundle is not None:
        found.append({"name": "certificates", "mountPath": CERTIFICATES, "readOnly": True})
    return found


def _stages(profile: Profile) -> tuple[Stage, Stage]:
    return profile.stages.generate, profile.stages.light


def _claims(profile: Profile) -> dict[str, str]:
    """Name of the volume of each claim: a claim's own name may be none for a volume."""
    claims = dict.fromkeys(one.claim for stage in _stages(profile) for one in stage.volumes)
    return {claim: f"claim-{at}" for at, claim in enumerate(claims)}


def shared_memory(name: str, stage: Stage) -> Object:
    """The volume for /dev/shm, through which the processes of one server talk."""
    size = stage.shared_memory or "1Gi"
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def _term(matches: Iterable[Match]) -> Object:
    expressions = [
        {"key": m.key, "operator": m.operator, **_given("values", list(m.values))} for m in matches
    ]
    return {"matchExpressions": expressions}


def _reference(name: str, key: str, optional: bool) -> Object:
    return {"name": name, "key": key, **({"optional": True} if optional else {})}


def _given(name: str, value: Any) -> Object:
    """A field, unless there is nothing in it."""
    return {name: value} if value else {}
