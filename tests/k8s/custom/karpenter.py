"""Karpenter: karpenter.sh/v1 and karpenter.k8s.aws/v1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from custom.common import Labels, Name, Quantity, Taint
from tspin.config.strict import Strict


class Requirement(Strict):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: list[str]
    minValues: int | None = None


class NodeClassRef(Strict):
    group: Literal["karpenter.k8s.aws"]
    kind: Literal["EC2NodeClass"]
    name: Name


class NodeClaim(Strict):
    nodeClassRef: NodeClassRef
    requirements: list[Requirement]
    taints: list[Taint] = Field(default_factory=list)
    expireAfter: str


class NodeClaimMetadata(Strict):
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)


class NodeClaimTemplate(Strict):
    metadata: NodeClaimMetadata
    spec: NodeClaim


class Disruption(Strict):
    consolidationPolicy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"]
    consolidateAfter: Annotated[str, Field(pattern=r"^(\d+[smh])+$|^Never$")]


class NodePoolSpec(Strict):
    template: NodeClaimTemplate
    disruption: Disruption
    limits: dict[str, int | str]
    weight: int | None = Field(None, ge=1, le=100)


class Ebs(Strict):
    volumeSize: Quantity
    volumeType: Literal["gp3", "io2"]
    encrypted: bool
    deleteOnTermination: bool


class BlockDevice(Strict):
    deviceName: str
    ebs: Ebs


class Tagged(Strict):
    tags: Labels


class Ami(Strict):
    alias: Annotated[str, Field(pattern=r"^bottlerocket@v[\d.]+$")]

    @field_validator("alias")
    @classmethod
    def _has_driver_580(cls, alias: str) -> str:
        """Since 1.53.0 every variant for Kubernetes has R580; before, only that of 1.34 had."""
        assert tuple(map(int, alias.partition("@v")[2].split("."))) >= (1, 53, 0)
        return alias


class MetadataOptions(Strict):
    httpEndpoint: Literal["enabled", "disabled"]
    httpTokens: Literal["required", "optional"]
    httpPutResponseHopLimit: int = Field(ge=1, le=64)


class EC2NodeClassSpec(Strict):
    role: str
    amiSelectorTerms: list[Ami]
    subnetSelectorTerms: list[Tagged]
    securityGroupSelectorTerms: list[Tagged]
    instanceStorePolicy: Literal["RAID0"]
    blockDeviceMappings: list[BlockDevice]
    metadataOptions: MetadataOptions
    tags: Labels
