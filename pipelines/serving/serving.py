"""What is to be served, and as what: all that decides a manifest."""

from __future__ import annotations

from dataclasses import dataclass

from tspin_pipelines.profiles.profile import Profile
from tspin_pipelines.profiles.stage import Stage
from tspin_pipelines.serving.arguments import Settings
from tspin_pipelines.serving.champion import Champion
from tspin_pipelines.serving.pod import Object
from tspin_pipelines.serving.source import Source

__all__ = ["SERVES", "TRACK", "Release", "Serving", "metadata", "network_policy", "pod_labels"]

SERVES = "tspin.io/serves"
"""Label of a pod: the name that it serves under."""
TRACK = "tspin.io/track"
"""Label of a pod: whether it is the canary."""
_HASH = "tspin.io/model"


@dataclass(frozen=True)
class Release:
    """One champion, and where pods find its base."""

    champion: Champion
    base: Source | None
    """None of full weights."""
    oci: str | None = None
    """The image that holds its model, `HOST/PATH@sha256:...`; None takes it from the registry."""


@dataclass(frozen=True)
class Serving:
    """One model under one name, or two of them that share its requests."""

    namespace: str
    profile: Profile
    image: str
    """With vLLM."""
    replicas: int
    settings: Settings
    release: Release
    canary: Release | None = None
    """What gets a share of the requests, while `release` gets the rest."""
    share: int = 0
    """Of 100 requests."""

    @property
    def name(self) -> str:
        """Of the objects, and of the model in requests."""
        return self.settings.name

    @property
    def stage(self) -> Stage:
        """Where responses are generated is where they are served."""
        return self.profile.stages.generate


def metadata(serving: Serving, release: Release, name: str) -> Object:
    """Name, labels and annotations of an object that serves a champion.

    Args:
        serving: What the object belongs to.
        release: The champion.
        name: Of the object.
    """
    champion = release.champion
    return {
        "name": name,
        "namespace": serving.namespace,
        "labels": {
            "app.kubernetes.io/name": serving.name,
            "app.kubernetes.io/part-of": "tspin",
            "app.kubernetes.io/managed-by": "tspin",
            _HASH: champion.short,
        },
        "annotations": {
            "tspin.io/registry": champion.registry,
            "tspin.io/champion": str(champion.record.number),
            _HASH: champion.record.model,
        },
    }


def pod_labels(serving: Serving, release: Release) -> dict[str, str]:
    """Of a pod: what it serves, which model that is, and on which side of a canary it stands.

    The profile's own are among them, such as those that a cloud's identity looks for; Kueue's are
    not, since a server that waits in a queue of batch work serves nobody.
    """
    track = "canary" if release is serving.canary else "stable"
    own = {SERVES: serving.name, TRACK: track, _HASH: release.champion.short}
    return {**serving.profile.pod_labels, **own}


def network_policy(serving: Serving, port: int) -> Object:
    """Lets requests in, where the namespace lets in nothing else.

    Args:
        serving: Whose pods.
        port: That they listen at.
    """
    labels = {"app.kubernetes.io/part-of": "tspin", "app.kubernetes.io/managed-by": "tspin"}
    anybody: Object = {"namespaceSelector": {}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"{serving.name}-requests",
            "namespace": serving.namespace,
            "labels": labels,
        },
        "spec": {
            "podSelector": {"matchLabels": {SERVES: serving.name}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [anybody], "ports": [{"protocol": "TCP", "port": port}]}],
        },
    }
