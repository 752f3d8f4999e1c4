"""Katib: kubeflow.org/v1beta1 (pkg/apis/controller/experiments/v1beta1 of 0.19)."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from custom.common import Name
from tspin.config.strict import Strict


class Objective(Strict):
    type: Literal["minimize", "maximize"]
    objectiveMetricName: str


class Collector(Strict):
    kind: Literal["StdOut", "File", "Push"]


class MetricsCollector(Strict):
    collector: Collector


class Algorithm(Strict):
    algorithmName: Literal["random", "grid", "tpe", "bayesianoptimization"]


class FeasibleSpace(Strict):
    min: str
    max: str
    distribution: Literal["uniform", "logUniform", "normal", "logNormal"]


class Parameter(Strict):
    name: str
    parameterType: Literal["double", "int", "discrete", "categorical"]
    feasibleSpace: FeasibleSpace


class TrialParameter(Strict):
    name: str
    description: str
    reference: str


class TrialTemplate(Strict):
    primaryContainerName: Name
    trialParameters: list[TrialParameter]
    trialSpec: dict[str, Any]


class ExperimentSpec(Strict):
    objective: Objective
    metricsCollectorSpec: MetricsCollector
    algorithm: Algorithm
    maxTrialCount: int = Field(gt=0)
    parallelTrialCount: int = Field(gt=0)
    maxFailedTrialCount: int = Field(ge=0)
    parameters: list[Parameter] = Field(min_length=1)
    trialTemplate: TrialTemplate
