"""The operator of Prometheus: monitoring.coreos.com/v1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from custom.common import Labels
from tspin.config.strict import Strict

Duration = Annotated[str, Field(pattern=r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$", min_length=2)]
Label = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class Selector(Strict):
    matchLabels: Labels


class Relabeling(Strict):
    action: Literal["replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep"] = "replace"
    sourceLabels: list[Label]
    regex: str = "(.*)"
    targetLabel: Label | None = None
    replacement: str = "$1"

    @model_validator(mode="after")
    def _target(self) -> Relabeling:
        if (self.targetLabel is not None) != (self.action == "replace"):
            raise ValueError("a replacement has a target, and nothing else has")
        return self


class PodMetricsEndpoint(Strict):
    interval: Duration
    relabelings: list[Relabeling]


class PodMonitorSpec(Strict):
    selector: Selector
    podTargetLabels: list[str]
    podMetricsEndpoints: list[PodMetricsEndpoint]


class Annotations(Strict):
    summary: str
    description: str | None = None


class Severity(Strict):
    severity: Literal["warning", "critical"]


class Rule(Strict):
    alert: Annotated[str, Field(pattern=r"^Tspin[A-Za-z]+$")]
    expr: str
    for_: Duration | None = Field(None, alias="for")
    labels: Severity
    annotations: Annotations


class RuleGroup(Strict):
    name: str
    rules: list[Rule]


class PrometheusRuleSpec(Strict):
    groups: list[RuleGroup]
