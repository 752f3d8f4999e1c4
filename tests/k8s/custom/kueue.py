"""Kueue: kueue.x-k8s.io/v1beta2."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from custom.common import Labels, Metadata, Name, Quantity, Taint
from tspin.config.strict import Strict


class ResourceFlavorSpec(Strict):
    nodeLabels: Labels = Field(default_factory=dict)
    nodeTaints: list[Taint] = Field(default_factory=list)


class ResourceQuota(Strict):
    name: str
    nominalQuota: Quantity


class FlavorQuotas(Strict):
    name: Name
    resources: list[ResourceQuota]


class ResourceGroup(Strict):
    coveredResources: list[str] = Field(min_length=1)
    flavors: list[FlavorQuotas] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_order(self) -> ResourceGroup:
        for flavor in self.flavors:
            if [quota.name for quota in flavor.resources] != self.coveredResources:
                raise ValueError(f"{flavor.name} does not list coveredResources in their order")
        return self


class NamespaceSelector(Strict):
    matchLabels: Labels


class Preemption(Strict):
    withinClusterQueue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"]


class ClusterQueueSpec(Strict):
    cohortName: Name
    namespaceSelector: NamespaceSelector
    queueingStrategy: Literal["StrictFIFO", "BestEffortFIFO"]
    preemption: Preemption
    resourceGroups: list[ResourceGroup]


class LocalQueueSpec(Strict):
    clusterQueue: Name


class WorkloadPriorityClass(Strict):
    """The whole object: this kind has no spec."""

    apiVersion: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["WorkloadPriorityClass"]
    metadata: Metadata
    value: int
    description: str
