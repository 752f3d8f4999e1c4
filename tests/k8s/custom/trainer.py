"""Kubeflow Trainer: trainer.kubeflow.org/v1alpha1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Any

from pydantic import Field

from custom.common import Labels, Name
from tspin.config.strict import Strict


class MlPolicy(Strict):
    numNodes: int = Field(ge=1)
    torch: dict[str, Any] = Field(max_length=0)


class JobMetadata(Strict):
    labels: Labels = Field(default_factory=dict)


class JobSpec(Strict):
    backoffLimit: int
    template: dict[str, Any]
    """A pod template; checked as a Job's."""


class JobTemplate(Strict):
    metadata: JobMetadata
    spec: JobSpec


class ReplicatedJob(Strict):
    name: Name
    template: JobTemplate


class FailurePolicy(Strict):
    maxRestarts: int = Field(ge=0)


class JobSetSpec(Strict):
    replicatedJobs: list[ReplicatedJob]
    failurePolicy: FailurePolicy


class JobSetTemplate(Strict):
    spec: JobSetSpec


class TrainingRuntimeSpec(Strict):
    mlPolicy: MlPolicy
    template: JobSetTemplate
