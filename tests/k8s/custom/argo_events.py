"""Argo Events: argoproj.io/v1alpha1 (pkg/apis/events/v1alpha1 of 1.9)."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from custom.common import Name
from tspin.config.strict import Strict


class Container(Strict):
    resources: dict[str, Any]
    securityContext: dict[str, Any]


class Template(Strict):
    serviceAccountName: Name
    securityContext: dict[str, Any]
    container: Container


class SQS(Strict):
    region: str
    queue: str
    waitTimeSeconds: int = Field(gt=0, le=20)
    jsonBody: bool
    endpoint: str
    """Required by the definition; empty is AWS's own."""


class EventSourceSpec(Strict):
    template: Template
    sqs: dict[Name, SQS]


class DataFilter(Strict):
    path: str
    type: Literal["bool", "number", "string"]
    value: list[str] = Field(min_length=1)


class Filters(Strict):
    data: list[DataFilter]


class Dependency(Strict):
    name: Name
    eventSourceName: Name
    eventName: Name
    filters: Filters


class Source(Strict):
    resource: dict[str, Any]


class K8sTrigger(Strict):
    operation: Literal["create", "update", "patch", "delete"]
    source: Source


class TriggerTemplate(Strict):
    name: Name
    k8s: K8sTrigger


class Backoff(Strict):
    steps: int = Field(gt=0)


class RateLimit(Strict):
    unit: Literal["Second", "Minute", "Hour"]
    requestsPerUnit: int = Field(gt=0)


class Trigger(Strict):
    template: TriggerTemplate
    retryStrategy: Backoff
    rateLimit: RateLimit


class SensorSpec(Strict):
    template: Template
    dependencies: list[Dependency] = Field(min_length=1)
    triggers: list[Trigger] = Field(min_length=1)
