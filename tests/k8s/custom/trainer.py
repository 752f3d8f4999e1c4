"""Kubeflow Trainer: trainer.kubeflow.org/v1alpha1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from custom.common import Labels, Name, Quantity
from tspin.config.strict import Strict


class MlPolicy(Strict):
    numNodes: int = Field(ge=1)
    torch: dict[str, Any] = Field(max_length=0)


class JobMetadata(Strict):
    labels: Labels = Field(default_factory=dict)


class ExitCodes(Strict):
    containerName: Name
    operator: Literal["In", "NotIn"]
    values: list[int]


class PodCondition(Strict):
    type: str
    status: Literal["True", "False", "Unknown"]


class PodFailureRule(Strict):
    action: Literal["FailJob", "FailIndex", "Ignore", "Count"]
    onExitCodes: ExitCodes | None = None
    onPodConditions: list[PodCondition] | None = None


class PodFailurePolicy(Strict):
    rules: list[PodFailureRule]


class JobSpec(Strict):
    backoffLimit: int
    podFailurePolicy: PodFailurePolicy
    template: dict[str, Any]
    """A pod template; checked as a Job's."""


class JobTemplate(Strict):
    metadata: JobMetadata
    spec: JobSpec


class ReplicatedJob(Strict):
    name: Name
    template: JobTemplate


class FailureRule(Strict):
    """JobSet 0.11 or newer: patterns of messages are not in older ones."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    action: Literal["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
    onJobFailureReasons: list[
        Literal["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]
    ] = Field(default_factory=list)
    onJobFailureMessagePatterns: list[str] = Field(default_factory=list)


class FailurePolicy(Strict):
    maxRestarts: int = Field(ge=0)
    rules: list[FailureRule]


class JobSetSpec(Strict):
    replicatedJobs: list[ReplicatedJob]
    failurePolicy: FailurePolicy


class JobSetTemplate(Strict):
    spec: JobSetSpec


class TrainingRuntimeSpec(Strict):
    mlPolicy: MlPolicy
    template: JobSetTemplate


class OwnerReference(Strict):
    apiVersion: str
    kind: str
    name: str
    uid: str


class TrainJobMetadata(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    namespace: Name
    labels: Labels
    ownerReferences: list[OwnerReference]


class RuntimeRef(Strict):
    apiGroup: Literal["trainer.kubeflow.org"]
    kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"]
    name: Name


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Variable(Strict):
    name: str
    value: str


class Trainer(Strict):
    image: str
    args: list[str]
    numNodes: int = Field(ge=1)
    numProcPerNode: int = Field(ge=1)
    resourcesPerNode: Resources
    env: list[Variable]


class TrainJobSpec(Strict):
    runtimeRef: RuntimeRef
    trainer: Trainer


class TrainJob(Strict):
    apiVersion: Literal["trainer.kubeflow.org/v1alpha1"]
    kind: Literal["TrainJob"]
    metadata: TrainJobMetadata
    spec: TrainJobSpec
