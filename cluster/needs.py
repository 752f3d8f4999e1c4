"""What a profile needs of a cluster, as JSON: the first task of a run gets it so."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from kubernetes.utils import parse_quantity
from pydantic import Field

from tspin.config.strict import Strict
from tspin_cluster.placement import Placement

__all__ = ["Claim", "Gang", "Keys", "Needs"]


class Claim(Strict):
    """A PersistentVolumeClaim."""

    name: str
    shared: bool
    """Whether pods on several nodes mount it at one time."""


class Keys(Strict):
    """A Secret or a ConfigMap, and the keys that tasks take from it."""

    name: str
    keys: tuple[str, ...]
    optional: bool = False
    """Whether tasks do without it."""


class Gang(Strict):
    """The pods of a stage that must run at one time."""

    stage: str
    pods: int = Field(1, gt=0)
    requests: dict[str, str]
    """Of each pod: cpu, memory, nvidia.com/gpu; in Kubernetes' own quantities."""
    limits: dict[str, str]
    """Of each pod."""
    placement: Placement = Placement()

    @property
    def gpu(self) -> bool:
        """Whether it asks for NVIDIA's GPUs."""
        return "nvidia.com/gpu" in self.requests

    def together(self) -> dict[str, Decimal]:
        """Requests of all pods, in cores, bytes, GPUs."""
        return self._sum(self.requests)

    def quota(self) -> dict[str, Decimal]:
        """What a ResourceQuota counts, in its own names."""
        requests, limits = self._sum(self.requests), self._sum(self.limits)
        counted = {f"requests.{name}": size for name, size in requests.items()}
        counted |= {f"limits.{name}": size for name, size in limits.items()}
        return counted | requests | {"pods": Decimal(self.pods)}

    def _sum(self, sizes: Mapping[str, str]) -> dict[str, Decimal]:
        return {name: self.pods * parse_quantity(size) for name, size in sizes.items()}


class Needs(Strict):
    """All that must be there before a run begins."""

    namespace: str
    overlay: str
    """The folder in k8s/overlays that makes what is named here."""
    service_account: str
    claims: tuple[Claim, ...] = ()
    secrets: tuple[Keys, ...] = ()
    config_maps: tuple[Keys, ...] = ()
    queue: str | None = None
    """Kueue's LocalQueue."""
    priorities: tuple[str, ...] = ()
    """WorkloadPriorityClasses."""
    gangs: tuple[Gang, ...]
    images: tuple[str, ...] = ()
    """References, with tag or digest; none where nodes have them already."""
    runtime: str | None = None
    """TrainingRuntime of Kubeflow Trainer, where training spans nodes."""
    artifact_bytes: int | None = None
    """Of the models of a whole run; None where it is not known."""
