"""GKE: cloud.google.com/v1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tspin.config.strict import Strict


class Gpu(Strict):
    type: str
    count: int = Field(ge=1)
    driverVersion: Literal["latest"]
    """Not 'default', which may be older than the images' CUDA needs."""


class BootDisk(Strict):
    bootDiskType: Literal["pd-balanced", "pd-standard", "pd-ssd", "hyperdisk-balanced"]
    bootDiskSize: int = Field(ge=10)


class Priority(Strict):
    machineType: str
    spot: bool
    gpu: Gpu | None = None
    storage: BootDisk


class AutoCreation(Strict):
    enabled: bool


class AutoscalingPolicy(Strict):
    consolidationDelayMinutes: int = Field(ge=1, le=1440)
    consolidationThreshold: int = Field(ge=0, le=100)
    gpuConsolidationThreshold: int = Field(ge=0, le=100)


class ComputeClassSpec(Strict):
    nodePoolAutoCreation: AutoCreation
    whenUnsatisfiable: Literal["ScaleUpAnyway", "DoNotScaleUp"]
    autoscalingPolicy: AutoscalingPolicy
    priorities: list[Priority]
